"""The routes: one APIRouter a module."""
