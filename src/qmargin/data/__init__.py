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
from qmargin.data.face_records import pack_face as pack_face
from qmargin.data.face_records import unpack_face as unpack_face
from qmargin.data.face_sets import read_face_records as read_face_records
from qmargin.data.folders import read_image_folder as read_image_folder
from qmargin.data.manifest import Manifest as Manifest
from qmargin.data.orl import read_orl as read_orl
from qmargin.data.packed import PackedSamples as PackedSamples
from qmargin.data.prepare import Prepared as Prepared
from qmargin.data.prepare import prepare_faces as prepare_faces
from qmargin.data.prepared import check_prepared as check_prepared
from qmargin.data.recordio import RecordError as RecordError
from qmargin.data.recordio import RecordReader as RecordReader
from qmargin.data.recordio import RecordWriter as RecordWriter
from qmargin.data.recordio import read_index as read_index
from qmargin.data.samples import Samples as Samples
from qmargin.data.sampling import ShuffledBatches as ShuffledBatches
from qmargin.data.shards import ShardWriter as ShardWriter
from qmargin.data.shards import read_shards as read_shards
from qmargin.data.sources import ImageFolders as ImageFolders
from qmargin.data.sources import ManifestFile as ManifestFile
from qmargin.data.sources import OrlFaces as OrlFaces
from qmargin.data.sources import RecordFile as RecordFile
from qmargin.data.sources import SyntheticIdentities as SyntheticIdentities
from qmargin.data.sources import TarShards as TarShards
from qmargin.data.streaming import stream_shards as stream_shards
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
    "PackedSamples",
    "PickledArray",
    "Prepared",
    "RecordError",
    "RecordFile",
    "RecordReader",
    "RecordWriter",
    "Samples",
    "ShardWriter",
    "ShuffledBatches",
    "SyntheticIdentities",
    "SyntheticSamples",
    "TarShards",
    "align_face",
    "augment",
    "check_prepared",
    "decode_image",
    "decode_rgb",
    "normalise",
    "pack_face",
    "prepare_faces",
    "read_face_records",
    "read_image_folder",
    "read_index",
    "read_manifest",
    "read_orl",
    "read_shards",
    "sequential",
    "similarity_transform",
    "stream_shards",
    "unpack_face",
    "unpickle",
    "write_manifest",
]
