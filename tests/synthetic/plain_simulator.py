"""The simulator as plain as it can be: one trajectory after the other, each formula as the papers write it."""

import itertools

import numpy as np

from lorakappa.conditioning.projection import balance
from lorakappa.synthetic.engine import DIVERGENCE_FACTOR
from lorakappa.synthetic.losses import MLP, OneLayer, TwoLayer
from lorakappa.synthetic.methods import PARTS, parse_method

LARGEST_ENTRY = 1e75


def evaluate(loss, theta):
    """The excess f − f* and the gradient of one problem's loss."""
    if isinstance(loss, OneLayer):
        A, B = loss.factors(theta)
        lam, (dA, dB) = loss.scaling, theta
        E = lam * (dA @ B + loss.origin[0] @ dB) if loss.origin else lam * A @ B - loss.Z_r
        a, b = loss.U.T @ dA, dB @ loss.V
        tail = np.diag(loss.tail)
        excess = (E**2).sum() / 2 - lam * np.trace(a.T @ tail @ b.T)
        return excess, (lam * (E @ B.T - loss.U @ tail @ b.T), lam * (A.T @ E - a.T @ tail @ loss.V.T))
    if isinstance(loss, TwoLayer):
        A1, B1, A2, B2 = theta
        P, Q = loss.W1 + A1 @ B1, loss.W2 + A2 @ B2
        E = P @ Q - loss.target
        return (E**2).sum() / 2, (E @ Q.T @ B1.T, A1.T @ E @ Q.T, P.T @ E @ B2.T, A2.T @ P.T @ E)
    assert isinstance(loss, MLP)
    A, B = theta
    hidden = np.tanh(A @ B @ loss.X)
    residual = loss.C @ hidden - loss.z
    G = ((loss.C.T @ residual) * (1 - hidden**2)) @ loss.X.T
    return (residual**2).sum() / 2, (G @ B.T, A.T @ G)


def direction(optimizer, gradient, state):
    """What the step follows; `state` is Adam's."""
    if optimizer == "gd":
        return gradient
    if optimizer == "sign":
        return [np.sign(g) for g in gradient]
    if optimizer == "sign-gd":
        norm = sum(np.abs(g).sum() for g in gradient)
        return [norm * np.sign(g) for g in gradient]
    state["t"] = t = state.get("t", 0) + 1
    moved = []
    for i, g in enumerate(gradient):
        state[i, "m"] = m = 0.9 * state.get((i, "m"), 0.0) + 0.1 * g
        state[i, "v"] = v = 0.999 * state.get((i, "v"), 0.0) + 0.001 * g * g
        moved.append(m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8))
    return moved


def post_step(name, method, layers):
    """The map after a step: the safe projection for BaLoRA, what the method itself has for the others."""
    gauge = {"balora": "hyperbalanced", "balora-scaled-gd": "hyperbalanced", "balora-plus": "hyperbalanced"}
    gauge |= {"balora-symmetric": "symmetric", "balora-nearest": "nearest"}
    base = name.partition("@")[0].partition(":")[0]
    if base in gauge:
        return lambda pair, _: balance(*pair, gauge=gauge[base])
    if method.new_map is None:
        return None
    maps = itertools.cycle([method.new_map() for _ in range(layers)])  # a state for each layer
    return lambda pair, gamma: next(maps)(pair, np.asarray(gamma))


@np.errstate(over="ignore", invalid="ignore")
def one_trajectory(loss, theta, method, optimizer, gamma, steps):
    """Curves of f − f* and of ‖AᵀA − BBᵀ‖, the step of divergence or −1, and the last good factors."""
    assert method.partition("@")[0].partition(":")[0] in PARTS
    parsed, state = parse_method(method), {}
    mapped = post_step(method, parsed, len(theta) // 2)
    value, gradient = evaluate(loss, theta)
    factors = loss.factors(theta)
    limit = DIVERGENCE_FACTOR * value
    excess, imbalance = [value], [gap(factors)]
    for t in range(steps):
        try:
            given = gradient if parsed.transform is None else parsed.transform(factors, gradient)
        except ValueError:  # a singular Gram matrix, which is divergence unless all begin with one
            assert t > 0
            return frozen(excess, imbalance, t, steps, factors)
        moved = direction(optimizer, given, state)
        speeds = (parsed.faster, 1.0) * (len(theta) // 2)
        new = tuple(x - gamma * s * d for x, s, d in zip(theta, speeds, moved, strict=True))
        if not all((np.abs(x) < LARGEST_ENTRY).all() for x in new):
            return frozen(excess, imbalance, t, steps, factors)
        if mapped is not None and (t + 1) % parsed.every == 0:
            pairs = loss.factors(new)
            layers = range(0, len(pairs), 2)
            new = loss.coordinates(tuple(x for i in layers for x in mapped(pairs[i : i + 2], gamma)))
        value, new_gradient = evaluate(loss, new)
        if not (np.isfinite(value) and value <= limit):
            return frozen(excess, imbalance, t, steps, factors)
        theta, gradient, factors = new, new_gradient, loss.factors(new)
        excess.append(value)
        imbalance.append(gap(factors))
    return np.array(excess), np.array(imbalance), -1, factors


def frozen(excess, imbalance, t, steps, factors):
    rest = [np.inf] * (steps - t)
    return np.array(excess + rest), np.array(imbalance + rest), t + 1, factors


def gap(factors):
    pairs = zip(factors[::2], factors[1::2], strict=True)
    return np.sqrt(sum(np.linalg.norm(A.T @ A - B @ B.T) ** 2 for A, B in pairs))
