"""Small classifiers as ONNX files: a linear one, and one that never ends."""

import onnx
from onnx import TensorProto, helper

SIDE, KINDS = 8, 3


def saved(folder, nodes, initializers=()):
    """Write a model of these nodes: float images in, one answer for each label out."""
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, None)],
        initializers,
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "model.onnx")


def linear(folder, rng, *, kinds=KINDS):
    """Write a model whose answers are random weights times the pixels."""
    weights = rng.normal(size=(SIDE * SIDE, kinds)).astype("f4")
    raw = helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.tobytes(), raw=True)
    saved(
        folder,
        [
            helper.make_node("Flatten", ["image"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "w"], ["answer"]),
        ],
        [raw],
    )


def counting_for_ever(folder):
    """Write a model that adds one to a number as often as a 64-bit integer allows."""
    number = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["still"]),
            helper.make_node("Add", ["before", "before"], ["after"]),
        ],
        "body",
        [
            number("turn", TensorProto.INT64, []),
            number("go", TensorProto.BOOL, []),
            number("before", TensorProto.FLOAT, None),
        ],
        [number("still", TensorProto.BOOL, []), number("after", TensorProto.FLOAT, None)],
    )
    saved(
        folder,
        [helper.make_node("Loop", ["most", "yes", "image"], ["answer"], body=body)],
        [
            helper.make_tensor("most", TensorProto.INT64, [], [2**62]),
            helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
        ],
    )
