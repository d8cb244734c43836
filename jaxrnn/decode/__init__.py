"""Generation, beam search and CTC decoding."""

from ._beam_search import Hypotheses as Hypotheses
from ._beam_search import beam_search as beam_search
from ._choices import Choose as Choose
from ._choices import greedy as greedy
from ._choices import sampling as sampling
from ._ctc import ctc_greedy as ctc_greedy
from ._generate import generate as generate
from ._generate import lengths_until as lengths_until

__all__ = [
    "Choose",
    "Hypotheses",
    "beam_search",
    "ctc_greedy",
    "generate",
    "greedy",
    "lengths_until",
    "sampling",
]
