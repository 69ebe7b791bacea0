"""A few of the faults that `python tests/faults` injects, and that it tells harm from none."""

import pytest
from catalogue import CATALOGUE
from full_disk import NoFileSystem


@pytest.mark.parametrize("name", [name for name, fault in CATALOGUE.items() if fault.quick])
def test_faults_do_no_harm(name: str) -> None:
    fault = CATALOGUE[name]
    try:
        verdicts = list(fault.check(fault.quick, 1))
    except NoFileSystem as reason:
        pytest.skip(f"no file system can be mounted: {reason}")
    assert len(verdicts) >= len(fault.quick)
    assert [verdict for verdict in verdicts if verdict.fault] == []
