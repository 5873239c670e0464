"""Statistics of the audit: intervals, tests and measures, each with its reference."""

from auditor.stats.bootstrap import Resampling, bootstrap_interval, ratio_interval, weighted_mean
from auditor.stats.builder import MetricBuilder, Rows
from auditor.stats.intervals import Estimate, mean_interval, proportion_interval
from auditor.stats.multiplicity import benjamini_hochberg, benjamini_yekutieli, holm
from auditor.stats.power import minimum_detectable_effect, n_to_settle

__all__ = ["Estimate", "MetricBuilder", "Resampling", "Rows", "benjamini_hochberg", "benjamini_yekutieli", "bootstrap_interval", "holm",
           "mean_interval", "minimum_detectable_effect", "n_to_settle", "proportion_interval", "ratio_interval", "weighted_mean"]
