"""The HTTP interface: the FastAPI application, its routes and pages.

`guestbook.web.app.create_app` makes the application.
"""
