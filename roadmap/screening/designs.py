"""Screening designs: which combinations of changes to train so that each run informs every main effect.

Each change is coded -1 (absent) or +1 (present). If all combinations are allowed, the rows are those of a Hadamard
matrix (Plackett and Burman 1946), folded over where the number of runs permits; otherwise an exchange algorithm
maximises the determinant of the information matrix (Fedorov 1972, Cook and Nachtsheim 1980).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

from roadmap.errors import RequestError
from roadmap.statistics.power import power

STARTS = 20  # of the exchange algorithm
NEAR = 0.99  # designs of this share of the best D-efficiency are chosen by their aliasing
DEALS = 200  # random assignments of seeds to combinations
DIGITS = 9  # ratios of determinants are compared to so many, so that rounding errors decide nothing


@dataclass(frozen=True)
class ScreeningDesign:
    """The runs of a screening design.

    ``names`` are the k changes and ``allowed`` the masks of all allowed combinations, bit i for ``names[i]``. Run i has
    the combination ``masks[i]`` and the seed ``seeds[i]``. ``kind`` is how the combinations were chosen.
    """

    names: tuple[str, ...]
    allowed: np.ndarray
    masks: np.ndarray
    seeds: np.ndarray
    kind: str

    @cached_property
    def matrix(self) -> np.ndarray:
        """The model matrix, (runs, 1 + k + seeds - 1)."""
        return np.hstack([coded(self.masks, len(self.names)), blocks(self.seeds)])

    @property
    def error_df(self) -> int:
        """The degrees of freedom between combinations that effects and seeds leave.

        Replicates do not count: the difference of two runs of one combination holds no interactions, so that it would
        make intervals too narrow where changes interact.
        """
        each = (self.masks[:, None] == np.unique(self.masks)).astype(float)
        return int(np.linalg.matrix_rank(np.hstack([each, blocks(self.seeds)]))) - self.matrix.shape[1]

    @property
    def efficiency(self) -> float:
        """The D-efficiency of the combinations: 1 if orthogonal, which rules may not allow."""
        return d_efficiency(coded(self.masks, len(self.names)))

    def standard_errors(self) -> np.ndarray:
        """The standard error of each effect, (k,), in units of the standard deviation of one run."""
        return effect_errors(self.matrix, len(self.names))

    def aliases(self) -> tuple[np.ndarray, list[tuple[int, int]]]:
        """Return (k, pairs) and the pairs of changes whose four combinations are all allowed.

        An entry is the shift of the estimated effect per unit of the pair's interaction, relative to the effect over
        all allowed combinations. The interaction is half the difference between the effects of one change with and
        without the other.
        """
        return aliases(self.masks, self.allowed, len(self.names))

    def power(self, effect: float, alpha: float) -> np.ndarray:
        """The power of a two-sided test at level ``alpha`` for an ``effect`` in standard deviations of one run, (k,).

        Assumes that main effects suffice. NaN without degrees of freedom for an error.
        """
        if self.error_df < 1:
            return np.full(len(self.names), np.nan)
        errors = self.standard_errors()
        return power(np.full(len(errors), effect), errors, np.full(len(errors), self.error_df), alpha)


def coded(masks: np.ndarray, changes: int) -> np.ndarray:
    """Return the constant and one column of -1 and +1 per change, (runs, 1 + changes)."""
    signs = 2.0 * (np.asarray(masks)[:, None] >> np.arange(changes) & 1) - 1
    return np.hstack([np.ones((len(signs), 1)), signs])


def blocks(seeds: np.ndarray) -> np.ndarray:
    """Return one centred column per seed except the first, (runs, seeds - 1)."""
    values = np.unique(seeds)
    columns = (np.asarray(seeds)[:, None] == values[1:]).astype(float)
    return columns - columns.mean(axis=0)


def effect_errors(matrix: np.ndarray, changes: int) -> np.ndarray:
    """Return the standard errors of effects for a unit variance; an effect is twice a coefficient."""
    return 2 * np.sqrt(np.diag(np.linalg.inv(matrix.T @ matrix))[1 : changes + 1])


def d_efficiency(matrix: np.ndarray) -> float:
    """Return |X'X|^(1/p) / n for a matrix (n, p) of -1 and +1: 1 if its columns are orthogonal, 0 if it is singular."""
    sign, log = np.linalg.slogdet(matrix.T @ matrix)
    return float(np.exp(log / matrix.shape[1]) / len(matrix)) if sign > 0 else 0.0


def aliases(masks: np.ndarray, allowed: np.ndarray, changes: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """See ``ScreeningDesign.aliases``."""
    space = coded(allowed, changes)
    pairs = [
        (i, j)
        for i, j in combinations(range(changes), 2)
        if len(np.unique(allowed >> i & 1 | (allowed >> j & 1) << 1)) == 4
    ]
    if not pairs:
        return np.zeros((changes, 0)), pairs
    ones, others = np.array(pairs).T + 1

    def projected(columns: np.ndarray) -> np.ndarray:
        products = columns[:, ones] * columns[:, others]
        return np.linalg.lstsq(columns, products, rcond=None)[0][1:]

    return projected(coded(masks, changes)) - projected(space), pairs


def screening_design(
    names: Sequence[str], allowed: np.ndarray, n: int, replicates: int, seeds: Sequence[int], seed: int
) -> ScreeningDesign:
    """Return ``n`` runs, of which ``replicates`` repeat a combination with another of ``seeds``.

    No combination is run twice with one seed. ``seed`` is that of the random search. Raises RequestError if an effect
    cannot be estimated from the ``allowed`` combinations, or if ``n`` is too small or too large.
    """
    allowed = np.asarray(allowed)
    check_estimable(names, coded(allowed, len(names)))
    least = 1 + len(names) + len(seeds) - 1
    needed = max(least, 1 + len(names) + replicates)
    if n < needed:
        extra = len(seeds) - 1
        words = f", a constant and {extra} difference{'s' * (extra > 1)} between seeds" if extra else " and a constant"
        raise RequestError(
            f"study.n={n} is too small: {len(names)} effects{words} need at least {needed} runs"
            + (f", {replicates} of them replicates" if replicates else "")
        )
    if replicates and len(seeds) < 2:
        raise RequestError(
            f"study.replicates={replicates} needs a second seed (got seeds={list(seeds)}); add one, or set "
            "study.replicates=0"
        )
    if n > len(allowed) * len(seeds):
        raise RequestError(
            f"study.n={n} is too large: {len(allowed)} combinations are allowed, which with {len(seeds)} seeds are "
            f"{len(allowed) * len(seeds)} runs"
        )
    rng = np.random.default_rng(seed)
    distinct = min(n - replicates, len(allowed))
    kind, chosen = "all combinations", np.arange(len(allowed))
    if distinct < len(allowed):
        kind, chosen = _combinations(allowed, len(names), distinct, rng)
    masks, dealt = _deal(allowed[chosen], n, seeds, len(names), rng)
    return ScreeningDesign(tuple(names), allowed, masks, dealt, kind)


def check_estimable(names: Sequence[str], matrix: np.ndarray) -> None:
    """Raise RequestError, naming the changes, if main effects are not determined by the rows of ``matrix``."""
    for name, column in zip(names, matrix[:, 1:].T, strict=True):
        if (column == column[0]).all():
            raise RequestError(
                f"study=screening cannot estimate the effect of {name}: {'every' if column[0] > 0 else 'no'} allowed "
                "combination has it; choose other study.changes, study.keep_others=true or a wider study.gmacs"
            )
    if np.linalg.matrix_rank(matrix) < matrix.shape[1]:
        null = np.linalg.svd(matrix)[2][-1]
        mixed = [name for name, value in zip(names, null[1:], strict=True) if abs(value) > 1e-9]
        raise RequestError(
            f"study=screening cannot tell the effects of {' and '.join(mixed)} apart: in the allowed combinations each "
            "follows from the others; choose other study.changes, study.keep_others=true or a wider study.gmacs"
        )


def _combinations(allowed: np.ndarray, changes: int, n: int, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """Return how the combinations were chosen, and their indices in ``allowed``."""
    if len(allowed) == 2**changes and (found := plackett_burman(n, changes, rng)) is not None:
        kind, rows = found
        return kind, np.searchsorted(allowed, (rows > 0) @ (1 << np.arange(changes)))
    candidates = coded(allowed, changes)
    designs = [exchange(candidates, start(candidates, n, rng)) for _ in range(STARTS)]
    efficiencies = np.array([d_efficiency(candidates[rows]) for rows in designs])
    near = [rows for rows, share in zip(designs, efficiencies / efficiencies.max(), strict=True) if share >= NEAR]
    shifts = [round(float((aliases(allowed[rows], allowed, changes)[0] ** 2).sum()), DIGITS) for rows in near]
    return "D-optimal", near[int(np.argmin(shifts))]


def start(candidates: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return the indices of ``n`` different random rows of ``candidates`` of full rank."""
    from scipy.linalg import qr

    weighted = candidates.T * rng.uniform(0.5, 1.5, len(candidates))
    first = qr(weighted, mode="r", pivoting=True)[1][: candidates.shape[1]]
    rest = rng.permutation(np.setdiff1d(np.arange(len(candidates)), first))
    return np.concatenate([first, rest[: n - len(first)]])


def exchange(candidates: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return ``rows`` after exchanging each for the best other row of ``candidates`` (m, p) until none improves |X'X|.

    Replacing x by c multiplies the determinant by (1 + d(c)) (1 - d(x)) + d(c, x)², with d(c, x) = c' (X'X)⁻¹ x.
    """
    rows = rows.copy()
    chosen = np.zeros(len(candidates), bool)
    chosen[rows] = True
    improved = True
    inverse, variances = _inverse(candidates, rows)
    while improved:
        improved = False
        for place, row in enumerate(rows):
            cross = candidates @ (inverse @ candidates[row])
            ratios = (1 + variances) * (1 - variances[row]) + cross**2
            ratios[chosen] = 0
            best = int(np.argmax(np.round(ratios, DIGITS)))
            if round(float(ratios[best]), DIGITS) > 1:
                chosen[[row, best]] = False, True
                rows[place], improved = best, True
                inverse, variances = _inverse(candidates, rows)
    return rows


def _inverse(candidates: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (X'X)⁻¹ of the rows and c' (X'X)⁻¹ c of each candidate."""
    inverse = np.linalg.inv(candidates[rows].T @ candidates[rows])
    return inverse, ((candidates @ inverse) * candidates).sum(axis=1)


def _deal(
    masks: np.ndarray, n: int, seeds: Sequence[int], changes: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the combination and the seed of each of ``n`` runs, seeds in equal numbers.

    The order is random; of several the one with the largest determinant is taken. Each further round of the
    combinations has the seeds of the first, moved by one, so that none is run twice with one seed.
    """
    best, found = -np.inf, None
    for _ in range(DEALS if len(seeds) > 1 else 1):
        order = rng.permutation(masks)
        runs = np.arange(n)
        dealt = np.array(seeds)[(runs % len(masks) + runs // len(masks)) % len(seeds)]
        repeated = order[runs % len(masks)]
        matrix = np.hstack([coded(repeated, changes), blocks(dealt)])
        sign, log = np.linalg.slogdet(matrix.T @ matrix)
        if found is None or (sign > 0 and round(log, DIGITS) > best):
            best, found = round(log, DIGITS) if sign > 0 else -np.inf, (repeated, dealt)
    assert found is not None
    return found


def plackett_burman(n: int, changes: int, rng: np.random.Generator) -> tuple[str, np.ndarray] | None:
    """Return the name and the rows (n, changes) of a design with orthogonal columns and different rows, if known.

    If ``n`` permits, a smaller design and its mirror image: no effect is then aliased with an interaction of two. Which
    columns are taken, and their signs, are random.
    """
    half = hadamard(n // 2) if n % 2 == 0 and changes <= n // 2 else None
    whole = hadamard(n)
    matrices = [] if half is None else [("folded Plackett-Burman", np.vstack([half, -half]))]
    if whole is not None and changes < n:
        matrices.append(("Plackett-Burman", whole[:, 1:]))
    for kind, matrix in matrices:
        columns = rng.permutation(matrix.shape[1])[:changes]
        rows = matrix[:, columns] * rng.choice([-1, 1], changes)
        if len(np.unique(rows, axis=0)) == n:
            return kind, rows
    return None


def hadamard(n: int) -> np.ndarray | None:
    """Return an n x n matrix of -1 and +1 with orthogonal columns, the first constant; None if none is known here.

    By Paley's two constructions for primes and Sylvester's doubling: every multiple of 4 below 52, and most above.
    """
    if n in (1, 2):
        return np.array([[1, 1], [1, -1]])[:n, :n]
    if n < 1 or n % 4:
        return None
    if _is_prime(n - 1):  # a multiple of 4 less 1
        found = np.eye(n, dtype=int) + _bordered(n - 1, skew=True)
    elif _is_prime(n // 2 - 1) and (n // 2 - 1) % 4 == 1:
        half = n // 2
        found = np.kron(_bordered(half - 1, skew=False), [[1, 1], [1, -1]])
        found += np.kron(np.eye(half, dtype=int), [[1, -1], [-1, -1]])
    elif (half_matrix := hadamard(n // 2)) is not None:
        found = np.kron([[1, 1], [1, -1]], half_matrix)
    else:
        return None
    return np.asarray(found * found[:, :1])


def _bordered(prime: int, skew: bool) -> np.ndarray:
    """Return the matrix of quadratic residues modulo a prime with a row and a column of ones, zero on the diagonal."""
    character = np.full(prime, -1)
    character[np.arange(prime) ** 2 % prime] = 1
    character[0] = 0
    bordered = np.zeros((prime + 1, prime + 1), int)
    bordered[0, 1:], bordered[1:, 0] = 1, -1 if skew else 1
    bordered[1:, 1:] = character[(np.arange(prime)[:, None] - np.arange(prime)) % prime]
    return bordered


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))
