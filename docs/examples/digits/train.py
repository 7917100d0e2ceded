"""Train the demo's model: a small CNN on scikit-learn's digits, written as ONNX with its held-back test split.

    python docs/examples/digits/train.py

Writes digits.onnx (float32, input 1x1x8x8 of reals 0..1), digits_calibration.npz (100 training images)
and digits_test.npz (the 360 images, every fifth, that training never saw) beside this file. Plain numpy:
two convolutions, one dense layer, Adam; a fixed seed makes the result repeatable.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
HERE = Path(__file__).parent
EPOCHS = 40
BATCH = 32


def windows(x: Array, stride: int) -> Array:
    """3x3 windows of images padded by 1: (n, h, w, c) -> (n, ho, wo, 9 * c)."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    view = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::stride, ::stride]
    return np.moveaxis(view, 3, -1).reshape(*view.shape[:3], -1)


def unfold(d: Array, shape: tuple[int, ...], stride: int) -> Array:
    """The gradient of `windows`."""
    n, h, w, c = shape
    padded = np.zeros((n, h + 2, w + 2, c))
    ho, wo = d.shape[1:3]
    for i in range(3):
        for j in range(3):
            part = d.reshape(n, ho, wo, 3, 3, c)[:, :, :, i, j]
            padded[:, i : i + stride * ho : stride, j : j + stride * wo : stride] += part
    return padded[:, 1:-1, 1:-1]


class Net:
    """conv 3x3 8 - ReLU - conv 3x3 16 stride 2 - ReLU - dense 10, with Adam."""

    def __init__(self, rng: np.random.Generator) -> None:
        sizes = ((9, 8), (72, 16), (4 * 4 * 16, 10))
        self.weights = [rng.normal(0, np.sqrt(2 / a), (a, b)) for a, b in sizes]
        self.biases = [np.zeros(b) for _, b in sizes]
        self.moments = [np.zeros_like(p) for p in (*self.weights, *self.biases) for _ in range(2)]
        self.steps = 0

    def forward(self, x: Array) -> list[Array]:
        """Return the windows and activations of each layer; the last is the logits."""
        a = windows(x, 1)
        b = np.maximum(a @ self.weights[0] + self.biases[0], 0)
        c = windows(b, 2)
        d = np.maximum(c @ self.weights[1] + self.biases[1], 0)
        e = d.reshape(len(d), -1)
        return [a, b, c, d, e, e @ self.weights[2] + self.biases[2]]

    def step(self, x: Array, y: NDArray[np.int64], rate: float) -> None:
        """One update by the gradient of the cross-entropy."""
        a, b, c, d, e, logits = self.forward(x)
        g = np.exp(logits - logits.max(1, keepdims=True))
        g /= g.sum(1, keepdims=True)
        g[np.arange(len(y)), y] -= 1
        g /= len(y)
        gd = (g @ self.weights[2].T).reshape(d.shape) * (d > 0)
        gb = unfold(gd @ self.weights[1].T, b.shape, 2) * (b > 0)
        grads = [
            np.tensordot(a, gb, ((0, 1, 2), (0, 1, 2))),
            np.tensordot(c, gd, ((0, 1, 2), (0, 1, 2))),
            e.T @ g,
            gb.sum((0, 1, 2)),
            gd.sum((0, 1, 2)),
            g.sum(0),
        ]
        self.steps += 1
        for i, (parameter, grad) in enumerate(zip((*self.weights, *self.biases), grads, strict=True)):
            first, second = self.moments[2 * i], self.moments[2 * i + 1]
            first += 0.1 * (grad - first)
            second += 0.001 * (grad * grad - second)
            scale = np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
            parameter -= rate * scale * first / (np.sqrt(second) + 1e-8)


def write_onnx(net: Net, path: Path) -> None:
    """Write the network as ONNX opset 17, NCHW."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def conv(weights: Array, channels: int) -> Array:
        return weights.reshape(3, 3, channels, -1).transpose(3, 2, 0, 1)

    dense = net.weights[2].reshape(4, 4, 16, 10).transpose(3, 2, 0, 1).reshape(10, -1)
    values = {
        "conv1.weight": conv(net.weights[0], 1),
        "conv1.bias": net.biases[0],
        "conv2.weight": conv(net.weights[1], 8),
        "conv2.bias": net.biases[1],
        "dense.weight": dense,
        "dense.bias": net.biases[2],
    }
    pads = [1, 1, 1, 1]
    nodes = [
        helper.make_node("Conv", ["image", "conv1.weight", "conv1.bias"], ["c1"], "conv1", pads=pads),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "conv2.weight", "conv2.bias"], ["c2"], "conv2", pads=pads, strides=[2, 2]),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("Flatten", ["r2"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "dense.weight", "dense.bias"], ["logits"], "dense", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="digits")
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def main() -> None:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1) / 16.0
    held_back = np.arange(len(images)) % 5 == 0
    x, y = images[~held_back], labels[~held_back]
    rng = np.random.default_rng(0)
    net = Net(rng)
    for epoch in range(EPOCHS):
        order = rng.permutation(len(x))
        for at in range(0, len(x), BATCH):
            pick = order[at : at + BATCH]
            net.step(x[pick], y[pick], 0.003 if epoch < EPOCHS // 2 else 0.0005)
    test, truth = images[held_back], labels[held_back]
    accuracy = float(np.mean(net.forward(test)[-1].argmax(1) == truth))
    write_onnx(net, HERE / "digits.onnx")
    nchw = images.transpose(0, 3, 1, 2).astype(np.float32)
    np.savez_compressed(HERE / "digits_calibration.npz", x=nchw[~held_back][:100])
    np.savez_compressed(HERE / "digits_test.npz", x=nchw[held_back], y=truth.astype(np.int64))
    print(f"float accuracy on {len(truth)} held-back images: {accuracy:.4f}")


if __name__ == "__main__":
    main()
