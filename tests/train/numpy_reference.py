"""The network, its gradients and its update once more, in plain NumPy and float64, written from the paper's formulas.

It reads the same list of layers as the Keras model and shares no code with it. Ties in a max-pool window: the gradient
goes to the first maximum in row-major order, as in TensorFlow; the code of 2012 gave it to each of them. Here both come
to the same: tied maxima are the zeros of a ReLU, which passes no gradient to any of them.
Shape suffixes: N images, H height, W width, C channels or classes.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def prepare(crops_NHWC, flips_N, noise_NC, mean_HWC, rescale):
    """Flip, centre, add the colour noise, rescale."""
    images = np.stack(
        [crop[:, ::-1] if flip else crop for crop, flip in zip(crops_NHWC.astype(float), flips_N, strict=True)]
    )
    return (images - mean_HWC + noise_NC[:, None, None, :]) / rescale


def _pad(x, padding, value=0.0):
    return np.pad(x, [(0, 0), *padding, (0, 0)], constant_values=value)


def _unpad(x, padding):
    (top, bottom), (left, right) = padding
    return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]


def _windows(x, size, stride):
    """View [N, rows, columns, C, size, size]."""
    return sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]


def _conv(layer, x, kernel, bias):
    windows = _windows(_pad(x, layer["padding"]), kernel.shape[0], layer["stride"])
    return np.tensordot(windows, kernel, axes=((4, 5, 3), (0, 1, 2))) + bias


def _conv_back(layer, x, kernel, gradient):
    padded, stride = _pad(x, layer["padding"]), layer["stride"]
    windows = _windows(padded, kernel.shape[0], stride)
    to_kernel = np.tensordot(windows, gradient, axes=((0, 1, 2), (0, 1, 2))).transpose(1, 2, 0, 3)
    to_input = np.zeros_like(padded)
    rows, columns = gradient.shape[1:3]
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            view = to_input[:, i : i + stride * rows : stride, j : j + stride * columns : stride]
            view += gradient @ kernel[i, j].T
    return _unpad(to_input, layer["padding"]), to_kernel, gradient.sum((0, 1, 2))


def _window_sum(x, layer):
    """Sum over neighbouring channels (lrn) or neighbouring pixels (spatial_norm), cut at the borders."""
    around = layer["size"] // 2
    for axis in (3,) if layer["op"] == "lrn" else (1, 2):
        length = x.shape[axis]
        spread = np.pad(x, [(around, around) if a == axis else (0, 0) for a in range(4)])
        x = sum(np.take(spread, range(i, i + length), axis) for i in range(layer["size"]))
    return x


def _norm(layer, x):
    return x * (layer["k"] + layer["alpha"] * _window_sum(x**2, layer)) ** -layer["beta"]


def _norm_back(layer, x, gradient):
    scale = layer["k"] + layer["alpha"] * _window_sum(x**2, layer)
    through_sums = _window_sum(gradient * x * scale ** (-layer["beta"] - 1), layer)
    return gradient * scale ** -layer["beta"] - 2 * layer["alpha"] * layer["beta"] * x * through_sums


def _pool_windows(layer, x):
    """Flat windows [N, rows, columns, C, size * size] of the input, which is -inf outside."""
    padded = _pad(x, layer.get("padding", [[0, 0], [0, 0]]), -np.inf)
    windows = _windows(padded, layer["size"], layer["stride"])
    return padded, windows.reshape(*windows.shape[:4], -1)


def _pool_back(layer, x, gradient):
    padded, windows = _pool_windows(layer, x)
    first = windows.argmax(-1)
    n, row, column, channel = np.indices(first.shape)
    y, x_ = row * layer["stride"] + first // layer["size"], column * layer["stride"] + first % layer["size"]
    to_input = np.zeros_like(padded)
    np.add.at(to_input, (n, y, x_, channel), gradient)
    return _unpad(to_input, layer.get("padding", [[0, 0], [0, 0]]))


def forward(network, weights, images_NHWC, masks):
    """Compute the output of every layer in training: dropout multiplies by its mask of zeros and ones."""
    values = {"input": images_NHWC}
    for layer in network[1:]:
        name, op, inputs = layer["name"], layer["op"], [values[source] for source in layer["inputs"]]
        x = inputs[0]
        if op == "conv":
            value = _conv(layer, x, weights[f"{name}/kernel"], weights[f"{name}/bias"])
        elif op == "dense":
            value = x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]
        elif op == "relu":
            value = np.maximum(x, 0)
        elif op == "tanh":
            value = np.tanh(x)
        elif op in ("lrn", "spatial_norm"):
            value = _norm(layer, x)
        elif op == "max_pool":
            value = _pool_windows(layer, x)[1].max(-1)
        elif op == "concat":
            value = np.concatenate(inputs, axis=-1)
        elif op == "flatten":
            value = x.reshape(len(x), -1)
        else:
            assert op == "dropout"
            value = x * masks[name]
        values[name] = value
    return values


def margin(network, values):
    """Find how close a ReLU is to its kink or a pool to another maximum, relative to the scale of the layer's input."""
    smallest = np.inf
    for layer in network:
        if layer["op"] == "relu":
            gaps = np.abs(values[layer["inputs"][0]])
        elif layer["op"] == "max_pool":
            top = np.sort(_pool_windows(layer, values[layer["inputs"][0]])[1], axis=-1)[..., -2:]
            gaps = np.diff(top)  # 0: zeros of a ReLU before it
        else:
            continue
        smallest = min(smallest, gaps[gaps > 0].min() / values[layer["inputs"][0]].std())
    return smallest


def cross_entropy(logits_NC, labels_N):
    """Return the mean loss and its gradient [N, C]."""
    shifted = logits_NC - logits_NC.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    rows = np.arange(len(labels_N))
    gradient = np.exp(log_p)
    gradient[rows, labels_N] -= 1
    return -log_p[rows, labels_N].mean(), gradient / len(labels_N)


# The gradient of a layer without weights, from its input and the gradient of its output.
BACK = {
    "relu": lambda layer, x, gradient: gradient * (x > 0),
    "tanh": lambda layer, x, gradient: gradient * (1 - np.tanh(x) ** 2),
    "lrn": _norm_back,
    "spatial_norm": _norm_back,
    "max_pool": _pool_back,
    "flatten": lambda layer, x, gradient: gradient.reshape(x.shape),
}


def backward(network, weights, values, masks, to_logits_NC):
    """Compute the gradient of every kernel and bias."""
    gradients, to = {}, {name: 0.0 for name in values} | {network[-1]["name"]: to_logits_NC}
    for layer in reversed(network[1:]):
        name, op, gradient = layer["name"], layer["op"], to[layer["name"]]
        x = values[layer["inputs"][0]]
        if op == "concat":
            sizes = [values[source].shape[-1] for source in layer["inputs"]]
            parts = np.split(gradient, np.cumsum(sizes)[:-1], axis=-1)
            for source, part in zip(layer["inputs"], parts, strict=True):
                to[source] = to[source] + part
            continue
        if op == "conv":
            back, gradients[f"{name}/kernel"], gradients[f"{name}/bias"] = _conv_back(
                layer, x, weights[f"{name}/kernel"], gradient
            )
        elif op == "dense":
            gradients[f"{name}/kernel"], gradients[f"{name}/bias"] = x.T @ gradient, gradient.sum(0)
            back = gradient @ weights[f"{name}/kernel"].T
        else:
            back = masks[name] * gradient if op == "dropout" else BACK[op](layer, x, gradient)
        to[layer["inputs"][0]] = to[layer["inputs"][0]] + back
    return gradients


def update(weights, velocities, gradients, rates, momentum, decay):
    """Take one step in place (paper, section 5); `rates` by parameter name, a rate of 0 leaves all as it is."""
    for name, rate in rates.items():
        if rate:
            cost = decay * weights[name] if name.endswith("/kernel") else 0.0
            velocities[name] = momentum * velocities[name] - rate * cost - rate * gradients[name]
            weights[name] = weights[name] + velocities[name]
