"""The network as an ONNX graph, built node by node.

torch's exporters would trace how frames are rearranged for speed, which other runtimes do not need.
The graph is the plain form: normalise, convolve, two dense layers. A test compares the outputs.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from torch import nn

from asyncade_proto.messages import STACK
from asyncade_rl.games import FRAME_SIDE
from asyncade_rl.network import ActorCritic

OPSET: Final = 17
"""Of 2022, which every runtime of the last years has."""

_IR_VERSION: Final = 8
"""That came with `OPSET`."""


def onnx_model(network: ActorCritic) -> bytes:
    """Returns an ONNX model of a network.

    Its input is ``frames``, uint8 [N, 4, 84, 84]; its outputs are ``logits``, float32 [N, A], and
    ``value``, float32 [N].

    Raises:
        ModuleNotFoundError: the package onnx is missing.
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    nodes: list[Any] = []
    tensors: dict[str, npt.NDArray[Any]] = {
        "mean": network.frame_mean.numpy(),
        "scale": network.frame_scale.numpy(),
        "last axis": np.array([1], dtype=np.int64),
    }

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def parameters(name: str, layer: nn.Conv2d | nn.Linear) -> list[str]:
        assert layer.bias is not None
        weight, bias = f"{name}.weight", f"{name}.bias"
        tensors[weight], tensors[bias] = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        return [weight, bias]

    hidden = add("Cast", ["frames"], "pixels", to=TensorProto.FLOAT)
    hidden = add("Sub", [hidden, "mean"], "centred")
    hidden = add("Div", [hidden, "scale"], "normalised")
    for number, layer in enumerate(network.convolutions):
        assert isinstance(layer, nn.Conv2d)
        name = f"convolutions.{number}"
        inputs = [hidden, *parameters(name, layer)]
        hidden = add("Conv", inputs, name, strides=list(layer.stride))
        hidden = add("Relu", [hidden], f"{name}.relu")
    hidden = add("Transpose", [hidden], "rows", perm=[0, 2, 3, 1])  # row, column, channel
    hidden = add("Flatten", [hidden], "flat")
    dense = parameters("fully_connected", network.fully_connected)
    hidden = add("Gemm", [hidden, *dense], "fully_connected", transB=1)
    hidden = add("Relu", [hidden], "hidden")
    add("Gemm", [hidden, *parameters("policy", network.policy)], "logits", transB=1)
    column = add("Gemm", [hidden, *parameters("value", network.value)], "column", transB=1)
    add("Squeeze", [column, "last axis"], "value")

    graph = helper.make_graph(
        nodes,
        "asyncade",
        [
            helper.make_tensor_value_info(
                "frames", TensorProto.UINT8, ["N", STACK, FRAME_SIDE, FRAME_SIDE]
            )
        ],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", network.num_actions]),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, ["N"]),
        ],
        [numpy_helper.from_array(np.ascontiguousarray(t), name) for name, t in tensors.items()],
    )
    model = helper.make_model(
        graph,
        producer_name="asyncade",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
    )
    checker.check_model(model, full_check=True)
    found: bytes = model.SerializeToString()
    return found
