"""Data: files -> manifest -> decoded, augmented batches in a seeded order that can be resumed.

>>> from qmargin.data import OrlFaces
>>> OrlFaces().read().subset("train").num_classes
30
"""

from qmargin.data._pickled_numpy import PickledArray as PickledArray
from qmargin.data.align import FACE_TEMPLATE as FACE_TEMPLATE
from qmargin.data.align import align_face as align_face
from qmargin.data.align import similarity_transform as similarity_transform
from qmargin.data.augment import Augmentation as Augmentation
from qmargin.data.augment import augment as augment
from qmargin.data.batches import Batch as Batch
from qmargin.data.batches import ImageBatches as ImageBatches
from qmargin.data.batches import sequential as sequential
from qmargin.data.decode import EncodedImage as EncodedImage
from qmargin.data.decode import ImageFormat as ImageFormat
from qmargin.data.decode import decode_image as decode_image
from qmargin.data.decode import decode_rgb as decode_rgb
from qmargin.data.decode import normalise as normalise
from qmargin.data.folders import read_image_folder as read_image_folder
from qmargin.data.manifest import Manifest as Manifest
from qmargin.data.orl import read_orl as read_orl
from qmargin.data.samples import Samples as Samples
from qmargin.data.sampling import ShuffledBatches as ShuffledBatches
from qmargin.data.sources import ImageFolders as ImageFolders
from qmargin.data.sources import ManifestFile as ManifestFile
from qmargin.data.sources import OrlFaces as OrlFaces
from qmargin.data.sources import SyntheticIdentities as SyntheticIdentities
from qmargin.data.synthetic import SyntheticSamples as SyntheticSamples
from qmargin.data.tables import read_manifest as read_manifest
from qmargin.data.tables import write_manifest as write_manifest
from qmargin.data.unpickle import unpickle as unpickle

__all__ = [
    "FACE_TEMPLATE",
    "Augmentation",
    "Batch",
    "EncodedImage",
    "ImageBatches",
    "ImageFolders",
    "ImageFormat",
    "Manifest",
    "ManifestFile",
    "OrlFaces",
    "PickledArray",
    "Samples",
    "ShuffledBatches",
    "SyntheticIdentities",
    "SyntheticSamples",
    "align_face",
    "augment",
    "decode_image",
    "decode_rgb",
    "normalise",
    "read_image_folder",
    "read_manifest",
    "read_orl",
    "sequential",
    "similarity_transform",
    "unpickle",
    "write_manifest",
]
