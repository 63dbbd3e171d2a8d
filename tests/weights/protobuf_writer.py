"""Protocol Buffers' wire format, written: files for the readers' tests, from the public definitions of ONNX's and Caffe's messages."""

import struct

import numpy as np

FLOAT, INT32, INT64, FLOAT16, DOUBLE, BFLOAT16 = 1, 6, 7, 10, 11, 16


def varint(value):
    value &= 2**64 - 1
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    written.append(value)
    return bytes(written)


def integer(number, value):
    return varint(number << 3) + varint(value)


def sized(number, content):
    content = content.encode() if isinstance(content, str) else bytes(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def real(number, value):
    return varint(number << 3 | 5) + struct.pack("<f", value)


def integers(number, values):
    return b"".join(integer(number, value) for value in values)


def packed_integers(number, values):
    return sized(number, b"".join(map(varint, values)))


def packed_reals(number, values, dtype="<f4"):
    return sized(number, np.asarray(values).astype(dtype).tobytes())


# ONNX: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto


def tensor(name, values, data_type=FLOAT):
    """A TensorProto with raw_data."""
    values = np.asarray(values)
    stored = {FLOAT: "<f4", INT32: "<i4", INT64: "<i8", FLOAT16: "<f2", DOUBLE: "<f8"}[data_type]
    return packed_integers(1, values.shape) + integer(2, data_type) + sized(8, name) + sized(9, values.astype(stored).tobytes())


def attribute(name, value):
    """An AttributeProto: an int, a float, a word, ints, or a TensorProto as bytes."""
    if isinstance(value, bytes):
        return sized(1, name) + sized(5, value) + integer(20, 4)
    if isinstance(value, str):
        return sized(1, name) + sized(4, value) + integer(20, 3)
    if isinstance(value, float):
        return sized(1, name) + real(2, value) + integer(20, 1)
    if isinstance(value, int):
        return sized(1, name) + integer(3, value) + integer(20, 2)
    return sized(1, name) + integers(8, value) + integer(20, 7)


def node(kind, inputs, outputs, name="", domain="", **attributes):
    """A NodeProto; inputs and outputs are names, divided by spaces."""
    parts = [sized(1, each) for each in inputs.split(" ") if inputs] + [sized(2, each) for each in outputs.split(" ")]
    parts += [sized(3, name or outputs.split(" ")[0]), sized(4, kind)] + [sized(7, domain)] * bool(domain)
    return b"".join(parts + [sized(5, attribute(key, value)) for key, value in attributes.items()])


def value(name, sides=()):
    """A ValueInfoProto of floats; sides that are words are variable."""
    shape = b"".join(sized(1, sized(2, side) if isinstance(side, str) else integer(1, side)) for side in sides)
    return sized(1, name) + sized(2, sized(1, integer(1, FLOAT) + sized(2, shape)))


def onnx_model(nodes, tensors=(), inputs=None, outputs=("y",), opset=13, name="net"):
    """A ModelProto."""
    inputs = [value("x", ("N", 3, 8, 8))] if inputs is None else inputs
    graph = b"".join([sized(1, each) for each in nodes] + [sized(2, name)] + [sized(5, each) for each in tensors])
    graph += b"".join([sized(11, each) for each in inputs] + [sized(12, value(each)) for each in outputs])
    return integer(1, 7) + sized(2, "a test") + sized(3, "1.0") + sized(7, graph) + sized(8, sized(1, "") + integer(2, opset))


# Caffe: https://github.com/BVLC/caffe/blob/master/src/caffe/proto/caffe.proto


def blob(values, legacy=False):
    """A BlobProto, of four sides in the legacy way."""
    values = np.asarray(values, np.float32)
    sides = (1,) * (4 - values.ndim) + values.shape
    shape = b"".join(integer(k + 1, side) for k, side in enumerate(sides)) if legacy else sized(7, packed_integers(1, values.shape))
    return shape + packed_reals(5, values)


def layer(kind, name, bottoms="", tops="", blobs=(), include=None, exclude=None, **settings):
    """A LayerParameter; settings are (field, message) by any word."""
    parts = [sized(1, name), sized(2, kind)] + [sized(3, each) for each in bottoms.split()] + [sized(4, each) for each in tops.split()]
    parts += [sized(7, blob(each)) for each in blobs] + [sized(field, message) for field, message in settings.values()]
    parts += [sized(field, integer(1, phase)) for field, phase in ((8, include), (9, exclude)) if phase is not None]
    return b"".join(parts)


def old_layer(kind, name, bottoms="", tops="", blobs=(), **settings):
    """A V1LayerParameter."""
    parts = [sized(2, each) for each in bottoms.split()] + [sized(3, each) for each in tops.split()] + [sized(4, name), integer(5, kind)]
    parts += [sized(6, blob(each, legacy=True)) for each in blobs] + [sized(field, message) for field, message in settings.values()]
    return b"".join(parts)


def caffe_model(layers, name="net", old=False, rest=b""):
    """A NetParameter."""
    return sized(1, name) + rest + b"".join(sized(2 if old else 100, each) for each in layers)
