import pytest

from stream_ad.detectors.registry import DETECTORS, detector_of, make_detector
from stream_ad.errors import BankError, ConfigError
from tests.detector_checks import CHECKS
from tests.models import cached, detectors


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", DETECTORS)
def test_detector_keeps_its_promises(name, check):
    check(detectors()[name])


def test_cmpmb_without_prompts_is_patchcore():
    """Its visual branch with no prompt learned is the baseline: what differs is what was added."""
    from stream_ad.backbones.views import Views
    from tests.detector_checks import NEW, adapted

    bare = make_detector("cmpmb", cached(), {"text_weight": 0.0, "prompt_steps": 0, "coreset_rows": 64})
    baseline = detectors()["patchcore"]
    one = bare.predict(Views(cached(), NEW), [adapted(bare)] * 3)
    two = baseline.predict(Views(cached(), NEW), [adapted(baseline)] * 3)
    assert one.scores["visual"].equal(two.scores["visual"])


def test_an_unknown_detector_or_option_is_said():
    with pytest.raises(ConfigError, match="choose one of anople, cmpmb, mpa, patchcore, promptmad, zero-shot"):
        make_detector("padim", cached())
    with pytest.raises(ConfigError, match="colour"):
        make_detector("patchcore", cached(), {"colour": 3})
    with pytest.raises(BankError, match="adapt it again"):
        detector_of("cmpmb/0", detectors())
