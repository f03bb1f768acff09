"""The HTTP interface: FastAPI, the API's routes and the pages."""
