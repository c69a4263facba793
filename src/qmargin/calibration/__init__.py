"""Calibration: scores -> log-likelihood ratios, and thresholds for a wanted FAR, from trials that are not tested."""

from qmargin.calibration.logistic import Calibration as Calibration
from qmargin.calibration.logistic import calibrate as calibrate
from qmargin.calibration.logistic import load_calibration as load_calibration
from qmargin.calibration.quality import quality_columns as quality_columns
from qmargin.calibration.thresholds import Thresholds as Thresholds
from qmargin.calibration.thresholds import load_thresholds as load_thresholds
from qmargin.calibration.thresholds import thresholds_for as thresholds_for

__all__ = [
    "Calibration",
    "Thresholds",
    "calibrate",
    "load_calibration",
    "load_thresholds",
    "quality_columns",
    "thresholds_for",
]
