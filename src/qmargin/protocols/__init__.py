"""Protocols: what to score and which figures to report, counts checked on load."""

from qmargin.protocols.bins import read_bin as read_bin
from qmargin.protocols.bins import write_bin as write_bin
from qmargin.protocols.compare import ScoredRun as ScoredRun
from qmargin.protocols.compare import compare as compare
from qmargin.protocols.comparison import Comparison as Comparison
from qmargin.protocols.identification import IdentificationReport as IdentificationReport
from qmargin.protocols.identification import TemplateList as TemplateList
from qmargin.protocols.identification import has_identification as has_identification
from qmargin.protocols.identification import identify_templates as identify_templates
from qmargin.protocols.identification import read_identification as read_identification
from qmargin.protocols.identification import read_template_list as read_template_list
from qmargin.protocols.identification import template_subjects as template_subjects
from qmargin.protocols.ijb_lists import IjbLists as IjbLists
from qmargin.protocols.ijb_lists import read_ijb as read_ijb
from qmargin.protocols.image_pairs import ImagePairs as ImagePairs
from qmargin.protocols.pair_lists import read_lfw_pairs as read_lfw_pairs
from qmargin.protocols.pair_lists import read_pairs_csv as read_pairs_csv
from qmargin.protocols.pair_verification import PairReport as PairReport
from qmargin.protocols.pair_verification import embed_pairs as embed_pairs
from qmargin.protocols.pair_verification import verify_pairs as verify_pairs
from qmargin.protocols.pairs import Trials as Trials
from qmargin.protocols.pairs import all_pairs as all_pairs
from qmargin.protocols.template_verification import TemplateReport as TemplateReport
from qmargin.protocols.template_verification import pooled as pooled
from qmargin.protocols.template_verification import verify_templates as verify_templates
from qmargin.protocols.training_validation import training_validator as training_validator
from qmargin.protocols.verification import VerificationReport as VerificationReport
from qmargin.protocols.verification import verify as verify

__all__ = [
    "Comparison",
    "IdentificationReport",
    "IjbLists",
    "ImagePairs",
    "PairReport",
    "ScoredRun",
    "TemplateList",
    "TemplateReport",
    "Trials",
    "VerificationReport",
    "all_pairs",
    "compare",
    "embed_pairs",
    "has_identification",
    "identify_templates",
    "pooled",
    "read_bin",
    "read_identification",
    "read_ijb",
    "read_lfw_pairs",
    "read_pairs_csv",
    "read_template_list",
    "template_subjects",
    "training_validator",
    "verify",
    "verify_pairs",
    "verify_templates",
    "write_bin",
]
