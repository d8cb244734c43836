"""A plugin of pytest: which tests trace, lower and compile, and for how long.

``python -m pytest -p tests.helpers.compile_times`` ends with a table: the seconds and
the programs of each file, by JAX's own timers, then of the functions that take longest,
all their cases added up.
"""

import collections

import jax
import pytest

TIMERS = {
    "/jax/core/compile/jaxpr_trace_duration": "tracing",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lowering",
    "/jax/core/compile/backend_compile_duration": "XLA",
}
COLUMNS = ("seconds", "tracing", "lowering", "XLA", "rest", "programs")
LONGEST = 60

_spent = collections.Counter()
_rows = {}


def _listen(event, seconds, **_):
    if event in TIMERS:
        _spent[TIMERS[event]] += seconds
        _spent["programs"] += TIMERS[event] == "XLA"


jax.monitoring.register_event_duration_secs_listener(_listen)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    report.user_properties = [("compile_times", dict(_spent))]
    _spent.clear()
    return report


def pytest_runtest_logreport(report):
    row = _rows.setdefault(report.nodeid.partition("[")[0], collections.Counter())
    row["seconds"] += report.duration
    for name, counts in report.user_properties:
        if name == "compile_times":
            row.update(counts)


def pytest_terminal_summary(terminalreporter):
    files = collections.defaultdict(collections.Counter)
    for test, row in _rows.items():
        row["rest"] = row["seconds"] - sum(row[name] for name in TIMERS.values())
        files[test.split("::")[0]].update(row)
        files["in all"].update(row)
    terminalreporter.section("compile times")
    _write(terminalreporter, files, len(files))
    _write(terminalreporter, _rows, LONGEST)


def _write(terminalreporter, rows, most):
    terminalreporter.write_line("".join(f"{column:>10}" for column in COLUMNS))
    for name in sorted(rows, key=lambda name: -rows[name]["seconds"])[:most]:
        cells = (f"{rows[name][column]:10.1f}" for column in COLUMNS)
        terminalreporter.write_line(f"{''.join(cells)}  {name}")
