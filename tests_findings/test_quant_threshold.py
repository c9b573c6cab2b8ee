"""Optimisation: how few bits weights may have."""

from pytest_rllm import ACCURACY, Arm, Sampling, Serving, finding, levels_off, pp


@finding(
    "Accuracy rises with the bits of the weights, and is level from 4 bits on.",
    cite="reviewers of Li et al., ICLR 2026 (OpenReview 6CGjZYp6ft): at which precision and size "
    "quantisation starts to hurt",
    tier="gate",
)
def test_quant_threshold(compare_curve, dataset, workload, model):
    """Weights are rounded to the nearest value in groups of 128, without calibration, and served in
    their own type: what is lost is lost by the bits alone, whatever kernels an engine has. The
    verdicts on single points of the curve tell where it leaves the margin.

    Level is within 5 points either way, which 480 questions can tell; a rise by 10 points, from 2
    bits on, is one that a user notices.

    Known deviation of the pair ``tiny-small``, which has a thirteenth of the parameters: it loses
    at 4 bits already. In a try on PyTorch, 100 easy and 100 medium questions each, it had 58 % and
    29 % right at 16 bits, 49 % and 23 % at 4, 24 % and 1 % at 3. The larger one had 100 % and 87 %
    at 16 bits, 97 % and 85 % at 3, 20 % and none at 2: the larger the model, the fewer bits do.
    """
    arms = {
        bits: Arm(
            Serving(quantization=f"rounded-{bits}") if bits < 16 else Serving(),
            dataset("easy", "medium", n=480),
            workload.closed(16),
            Sampling(model.enough),
        )
        for bits in (2, 3, 4, 8, 16)
    }
    compare_curve(arms, of="bits").shows(
        levels_off(ACCURACY, at=4, by=pp(10), within=pp(5)),
    )
