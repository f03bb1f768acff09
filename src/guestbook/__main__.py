from guestbook.cli import app

app()
