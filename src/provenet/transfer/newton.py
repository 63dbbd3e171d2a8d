"""Linear heads on few pictures, solved by Newton's method: several side by side, each of its own share of the pictures.

The loss is the one of transfer/solve.py. A step of Newton's method is found by conjugate gradients (Nocedal and Wright 2006, chapter 7.1),
and these are led by a curvature that is known without work: that of each principal component of the features. So some dozens of passes
lead to the minimum itself, in which L-BFGS is still on its way, and none of them reads more numbers than there are components.
Letters: N pictures, R components and a column of ones for the bias, H heads, K classes.
"""

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

MOST_STEPS, MOST_DIRECTIONS, MOST_HALVINGS = 100, 100, 40
SMALLEST_RESIDUAL = 0.1
"""Of the gradient, when a step is near enough to Newton's: the next one corrects it."""
SUFFICIENT = 1e-4
"""The part of the promised gain that a step must bring (Armijo 1966)."""
LEAST_CURVATURE = 1e-12


class LinearHeads:
    """Linear heads of the same features: logits [H, N, K] = rows [N, R] @ weights [H, R, K], whose last row are the biases."""

    def __init__(self, rows: Numbers, labels: NDArray[np.int64], shares: Numbers, num_classes: int) -> None:
        """`shares` [H, N] is what each picture counts in the loss of each head: they sum to 1, and are 0 for those held out."""
        self.rows = np.concatenate([rows, np.ones((len(rows), 1))], 1)
        self.mean_squares = np.square(self.rows).mean(0)[:, None]
        self.shares = shares[:, :, None]
        self.targets = np.eye(num_classes)[labels]
        self.weights = np.zeros((len(shares), self.rows.shape[1], num_classes))

    def logits(self) -> Numbers:
        """[H, N, K]."""
        return self._read(self.weights)

    def solve(self, decay: float, tolerance: float) -> Numbers:
        """Go from where the weights are to the minimum; -> the loss of each head [H], decay included.

        Done when no head could gain more than `tolerance` times its loss.
        """
        penalty = np.full((self.rows.shape[1], 1), decay)
        penalty[-1] = 0
        logits = self.logits()
        loss = self._loss(logits, self.weights, penalty)
        for _ in range(MOST_STEPS):
            probabilities = _softmax(logits)
            gradient = self._project(self.shares * (probabilities - self.targets)) + penalty * self.weights
            step = self._newton_step(probabilities, gradient, penalty)
            slope, moved = _products(gradient, step), self._read(step)
            size = np.ones_like(slope)
            for _ in range(MOST_HALVINGS):
                found = self._loss(logits + size * moved, self.weights + size * step, penalty)
                if not (too_far := found > loss + SUFFICIENT * size * slope).any():
                    break
                size[too_far] /= 2
            else:
                size[too_far], found[too_far] = 0, loss[too_far]  # rounding is all that is left
            self.weights += size * step
            logits, loss = logits + size * moved, found
            if (-slope / 2 <= tolerance * loss).all() or not size.any():
                break
        return loss[:, 0, 0]

    def _newton_step(self, probabilities: Numbers, gradient: Numbers, penalty: Numbers) -> Numbers:
        """About minus the inverse of the second derivatives times the gradient: [H, R, K]."""
        own = (self.shares * probabilities * (1 - probabilities)).sum(1, keepdims=True)
        curvature = np.maximum(own, LEAST_CURVATURE) * self.mean_squares + penalty
        step, residual = np.zeros_like(gradient), -gradient
        direction = led = residual / curvature
        product = first = _products(residual, led)
        for _ in range(MOST_DIRECTIONS):
            moved = probabilities * self._read(direction)
            moved = self.shares * (moved - probabilities * moved.sum(2, keepdims=True))
            bent = self._project(moved) + penalty * direction
            size = _ratio(product, _products(direction, bent))
            step += size * direction
            residual -= size * bent
            led = residual / curvature
            before, product = product, _products(residual, led)
            if (product <= SMALLEST_RESIDUAL**2 * first).all():
                break
            direction = led + _ratio(product, before) * direction
        return step

    def _loss(self, logits: Numbers, weights: Numbers, penalty: Numbers) -> Numbers:
        """Of each head [H, 1, 1]."""
        shifted = logits - logits.max(2, keepdims=True)
        losses = np.log(np.exp(shifted).sum(2, keepdims=True)) - (shifted * self.targets).sum(2, keepdims=True)
        found: Numbers = (self.shares * losses).sum(1, keepdims=True) + 0.5 * _products(penalty * weights, weights)
        return found

    def _read(self, weights: Numbers) -> Numbers:
        """Weights [H, R, K] -> [H, N, K]."""
        return self.rows @ weights

    def _project(self, answers: Numbers) -> Numbers:
        """The other way: [H, N, K] -> [H, R, K]."""
        return self.rows.T @ answers


def _softmax(logits: Numbers) -> Numbers:
    raised = np.exp(logits - logits.max(2, keepdims=True))
    probabilities: Numbers = raised / raised.sum(2, keepdims=True)
    return probabilities


def _products(some: Numbers, others: Numbers) -> Numbers:
    """The inner product of each head's [H, R, K] -> [H, 1, 1]."""
    found: Numbers = np.einsum("hrk,hrk->h", some, others)
    return found[:, None, None]


def _ratio(some: Numbers, others: Numbers) -> Numbers:
    """Their ratio; 0 where a head has arrived and nothing is left to divide."""
    return np.divide(some, others, out=np.zeros_like(some), where=others > 0)
