"""Protocols: what to score and which figures to report, counts checked on load."""

from qmargin.protocols.compare import ScoredRun as ScoredRun
from qmargin.protocols.compare import compare as compare
from qmargin.protocols.comparison import Comparison as Comparison
from qmargin.protocols.pairs import Trials as Trials
from qmargin.protocols.pairs import all_pairs as all_pairs
from qmargin.protocols.verification import VerificationReport as VerificationReport
from qmargin.protocols.verification import verify as verify

__all__ = ["Comparison", "ScoredRun", "Trials", "VerificationReport", "all_pairs", "compare", "verify"]
