"""The compliance report and the model card: what a run measured, held beside the provisions of a standard, and what it did not measure."""
