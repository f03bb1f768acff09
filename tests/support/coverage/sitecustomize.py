"""Measure coverage in every Python process that a test starts, servers included.

Python imports this module at its start where `PYTHONPATH` has this folder, as `make coverage`
arranges it. A guestbook process ends by the signal that it received, which skips coverage's exit
handler: so the data is saved just before the process sends itself that signal. A server that a
test has no more use for is ended by SIGUSR2, because SIGKILL would lose its data.
"""

import os
import signal

if "COVERAGE_PROCESS_START" in os.environ:
    import coverage

    coverage.process_startup()
    _kill = os.kill
    _exit = os._exit

    def _save() -> None:
        measuring = coverage.Coverage.current()
        if measuring is not None:
            measuring.stop()
            measuring.save()

    def _kill_and_save(pid: int, number: int) -> None:
        if pid == os.getpid():
            _save()
        _kill(pid, number)

    def _exit_and_save(status: int) -> None:
        _save()
        _exit(status)

    signal.signal(signal.SIGUSR2, lambda _number, _frame: _exit_and_save(0))
    os.kill = _kill_and_save
    os._exit = _exit_and_save  # type: ignore[assignment]  # never returns either
