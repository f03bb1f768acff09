"""The pages, rendered and cached."""
