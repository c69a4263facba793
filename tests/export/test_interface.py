from dataclasses import replace

from qmargin.data import ImageFormat
from qmargin.data.speech import FrontEnd
from qmargin.export.interface import preprocessing, speech_preprocessing


def test_preprocessing_in_words() -> None:
    assert preprocessing(ImageFormat()).startswith("RGB, 112 pixels high and 112 wide (of exactly that size)")
    assert "(scaled to that size)" in preprocessing(ImageFormat(fit="resize"))


def test_the_two_front_ends_are_told_apart_in_words() -> None:
    ours, theirs = speech_preprocessing(FrontEnd.wespeaker()), speech_preprocessing(FrontEnd.speaker_3d())
    assert "times 32768; 80 log mel filter banks" in ours
    assert "hamming window" in ours
    assert "times 1; 80 log mel filter banks" in theirs
    assert "povey window" in theirs
    assert "the mean over the utterance's frames is taken off" in ours
    assert "no mean is taken off" in speech_preprocessing(replace(FrontEnd(), subtract_mean=False))
