import numpy as np
import pytest

from qmargin.scoring import pair_cosines


@pytest.mark.parametrize("items", [2, 3, 50, 1500])  # 1500: more than one block
def test_pairs_equal_the_whole_matrix(items: int) -> None:
    vectors = np.random.default_rng(items).normal(size=(items, 8)).astype(np.float32) * 5
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    expected = (unit @ unit.T)[np.triu_indices(items, k=1)]
    np.testing.assert_allclose(pair_cosines(vectors), expected, atol=1e-6)


def test_an_embedding_without_direction_is_named() -> None:
    vectors = np.ones((4, 3), dtype=np.float32)
    vectors[2] = 0
    with pytest.raises(ValueError, match=r"embedding 2 \(1 in all\) is zero or not finite"):
        pair_cosines(vectors)
    with pytest.raises(ValueError, match=r"items >= 2, dim\), got \(1, 3\)"):
        pair_cosines(vectors[:1])
