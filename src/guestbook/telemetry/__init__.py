"""Logs, metrics, traces, and the access log."""

from guestbook.telemetry.metrics import CONTENT_TYPE, Metrics
from guestbook.telemetry.requests import HEADER, AccessLog, current_id

__all__ = ["CONTENT_TYPE", "HEADER", "AccessLog", "Metrics", "current_id"]
