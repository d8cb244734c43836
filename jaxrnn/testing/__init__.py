"""Check the whole contract of a cell, in float64, in one call.

::

    print(jaxrnn.testing.check_cell(my_cell(5)))

Or one test for each property, with pytest::

    CELL = my_cell(5)

    @pytest.mark.parametrize("name", jaxrnn.testing.cell_properties(CELL))
    def test_my_cell(name):
        jaxrnn.testing.check_cell(CELL, properties=[name])
"""

from ._check_cell import cell_properties as cell_properties
from ._check_cell import check_cell as check_cell
from ._report import LeafError as LeafError
from ._report import Report as Report

__all__ = [
    "LeafError",
    "Report",
    "cell_properties",
    "check_cell",
]
