"""Logs, metrics, traces, and the access log."""

from guestbook.telemetry.metrics import CONTENT_TYPE, Metrics
from guestbook.telemetry.requests import REQUEST_ID, begin_request, current_id, log_request

__all__ = ["CONTENT_TYPE", "REQUEST_ID", "Metrics", "begin_request", "current_id", "log_request"]
