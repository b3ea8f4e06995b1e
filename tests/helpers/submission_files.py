"""Files of submissions, written by hand, and the error that a bad one gives."""

import pytest

from rsfoundation.core.errors import DataError
from rsfoundation.datasets.oriented.classes import DOTA_V1
from rsfoundation.evaluation.submission.check import check_submission

GOOD = "P0001 0.9 10 10 20 10 20 20 10 20\n"
OBJECT = """<object><possibleresult><name>Small Car</name><probability>0.5</probability></possibleresult>
<points><point>1,1</point><point>9, 1</point><point>9,5</point><point>1,5</point><point>1,1</point></points>
</object>
"""


def class_files(task="Task1", **lines):
    """Return the texts of all class files by name, empty ones where no lines are given."""
    return {f"{task}_{name}.txt": lines.get(name.replace("-", "_"), "") for name in DOTA_V1}


def document(objects=OBJECT, name="7.tif", size="<width>10</width><height>10</height>"):
    source = f"<source><filename>{name}</filename></source>"
    return f"<annotation>\n{source}\n<size>{size}</size>\n<objects>\n{objects}</objects></annotation>"


def refused(path, **kwargs):
    """Return the error of an archive that is read but not accepted; it has a fix."""
    with pytest.raises(DataError, match="would not accept") as caught:
        check_submission(path, **kwargs).raise_problem()
    assert caught.value.fix
    return caught.value
