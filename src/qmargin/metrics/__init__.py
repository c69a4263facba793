"""Verification figures from scores and labels: numpy only, one definition of each number, all on top of `det.py`.

Conventions: a higher score means more alike; label 1 (True) is a genuine trial, 0 (False) an impostor; a threshold t
accepts `score >= t`; equal scores are one group, so the order of the trials never matters. FAR is P_fa, FRR is P_miss.
Every figure has two doors: `eer(scores, labels)`, and `eer_of(det)`, which shares the sort of one `det_curve`.
"""

from qmargin.metrics._intervals import Method as Method
from qmargin.metrics._resampling import Draws as Draws
from qmargin.metrics._resampling import Progress as Progress
from qmargin.metrics._resampling import Statistic as Statistic
from qmargin.metrics._resampling import resample_steps as resample_steps
from qmargin.metrics._subjects import Strata as Strata
from qmargin.metrics._subjects import strata_sizes as strata_sizes
from qmargin.metrics.accuracy import PairAccuracy as PairAccuracy
from qmargin.metrics.accuracy import file_order_folds as file_order_folds
from qmargin.metrics.accuracy import grid_pair_accuracy as grid_pair_accuracy
from qmargin.metrics.accuracy import pair_accuracy as pair_accuracy
from qmargin.metrics.accuracy_bootstrap import pair_accuracy_bootstrap as pair_accuracy_bootstrap
from qmargin.metrics.bands import DetBand as DetBand
from qmargin.metrics.bands import det_band as det_band
from qmargin.metrics.bands import far_grid as far_grid
from qmargin.metrics.bands import figures_and_band as figures_and_band
from qmargin.metrics.bootstrap import Interval as Interval
from qmargin.metrics.bootstrap import PairedInterval as PairedInterval
from qmargin.metrics.bootstrap import paired_subject_bootstrap as paired_subject_bootstrap
from qmargin.metrics.bootstrap import subject_bootstrap as subject_bootstrap
from qmargin.metrics.cllr import cllr as cllr
from qmargin.metrics.cllr import cllr_of as cllr_of
from qmargin.metrics.cllr import min_cllr as min_cllr
from qmargin.metrics.cllr import min_cllr_of as min_cllr_of
from qmargin.metrics.dcf import act_dcf as act_dcf
from qmargin.metrics.dcf import act_dcf_of as act_dcf_of
from qmargin.metrics.dcf import bayes_threshold as bayes_threshold
from qmargin.metrics.dcf import min_dcf as min_dcf
from qmargin.metrics.dcf import min_dcf_of as min_dcf_of
from qmargin.metrics.dcf import min_dcf_threshold_of as min_dcf_threshold_of
from qmargin.metrics.det import DetCurve as DetCurve
from qmargin.metrics.det import det_curve as det_curve
from qmargin.metrics.eer import eer as eer
from qmargin.metrics.eer import eer_hull as eer_hull
from qmargin.metrics.eer import eer_hull_of as eer_hull_of
from qmargin.metrics.eer import eer_of as eer_of
from qmargin.metrics.tar import TarAtFar as TarAtFar
from qmargin.metrics.tar import tar_at_far as tar_at_far
from qmargin.metrics.tar import tar_at_far_of as tar_at_far_of

__all__ = [
    "DetBand",
    "DetCurve",
    "Draws",
    "Interval",
    "Method",
    "PairAccuracy",
    "PairedInterval",
    "Progress",
    "Statistic",
    "Strata",
    "TarAtFar",
    "act_dcf",
    "act_dcf_of",
    "bayes_threshold",
    "cllr",
    "cllr_of",
    "det_band",
    "det_curve",
    "eer",
    "eer_hull",
    "eer_hull_of",
    "eer_of",
    "far_grid",
    "figures_and_band",
    "file_order_folds",
    "grid_pair_accuracy",
    "min_cllr",
    "min_cllr_of",
    "min_dcf",
    "min_dcf_of",
    "min_dcf_threshold_of",
    "pair_accuracy",
    "pair_accuracy_bootstrap",
    "paired_subject_bootstrap",
    "resample_steps",
    "strata_sizes",
    "subject_bootstrap",
    "tar_at_far",
    "tar_at_far_of",
]
