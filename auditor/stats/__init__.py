"""Statistics of the audit: intervals, tests and measures, each with its reference."""

from auditor.stats.agreement import (
    agreement_half_credit,
    agreement_with_ties,
    agreement_without_ties,
    cohen_kappa,
    human_ceiling,
    krippendorff_alpha,
    pairwise_agreement,
)
from auditor.stats.annotator_test import AltTest, alt_test
from auditor.stats.bootstrap import Resampling, Statistic, bootstrap_interval, ratio_interval, weighted_mean
from auditor.stats.builder import MetricBuilder, MetricOptions, Rows
from auditor.stats.calibration import adaptive_ece, auroc, brier, confident_and_wrong, ece_interval, ece_noise, overconfidence
from auditor.stats.diversity import (
    compression_ratio,
    distinct_answers,
    distinct_n,
    entropy,
    mean_pairwise_cosine,
    normalise_answer,
    repeated_share,
    self_bleu,
    vendi_score,
)
from auditor.stats.equivalence import MarginTest, equivalence_test, non_inferiority_test
from auditor.stats.intervals import Estimate, mean_interval, proportion_interval
from auditor.stats.length import LengthBias, length_bias_test, length_controlled_win_rate
from auditor.stats.multiplicity import benjamini_hochberg, benjamini_yekutieli, holm
from auditor.stats.paired import PairedResult, mcnemar_exact, paired_test, sign_flip_p
from auditor.stats.power import minimum_detectable_effect, n_to_settle
from auditor.stats.prevalence import Confusion, ppi_mean, rogan_gladen
from auditor.stats.rerun import Noise, draw_noise, flip_probability

__all__ = [
    "AltTest", "Confusion", "Estimate", "LengthBias", "MarginTest", "MetricBuilder", "MetricOptions", "Noise", "PairedResult", "Resampling",
    "Rows", "Statistic", "adaptive_ece", "agreement_half_credit", "agreement_with_ties", "agreement_without_ties", "alt_test", "auroc",
    "benjamini_hochberg", "benjamini_yekutieli", "bootstrap_interval", "brier", "cohen_kappa", "compression_ratio", "confident_and_wrong",
    "distinct_answers", "distinct_n", "draw_noise", "ece_interval", "ece_noise", "entropy", "equivalence_test", "flip_probability", "holm", "human_ceiling",
    "krippendorff_alpha", "length_bias_test", "length_controlled_win_rate", "mcnemar_exact", "mean_interval",
    "mean_pairwise_cosine", "minimum_detectable_effect", "n_to_settle", "non_inferiority_test", "normalise_answer", "overconfidence",
    "paired_test", "pairwise_agreement", "ppi_mean", "proportion_interval", "ratio_interval", "repeated_share", "rogan_gladen", "self_bleu",
    "sign_flip_p", "vendi_score", "weighted_mean",
]
