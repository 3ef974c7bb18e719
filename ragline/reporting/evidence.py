"""The evidence of the page, section by section: what was measured, with intervals and n, as charts and tables."""

from ragline.reporting import answered, judged, made, retrieved, sliced
from ragline.reporting.inputs import Inputs
from ragline.reporting.sections import Section


def view(inputs: Inputs) -> dict[str, Section | None]:
    """All sections by name, in the order of the page.

    A section is None where the files have nothing for it; within a section, what a file does not hold is said in a
    line, or left out.
    """
    return {
        "retrieval": retrieved.retrieval(inputs),
        "answers": answered.answers(inputs),
        "abstention": answered.abstention(inputs),
        "slices": sliced.slices(inputs),
        "judge": judged.judge(inputs),
        "training": made.training(inputs),
        "data": made.data(inputs),
        "cost": made.cost(inputs),
    }
