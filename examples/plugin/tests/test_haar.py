from obverse_haar import Haar, InverseHaar

from obverse.testing import parametrize_with_checks


@parametrize_with_checks([Haar, InverseHaar], min_checks=15)
def test_haar(check):
    check()
