"""Whether released models have forgotten, measured against the original and retrained models.

One measurement per file, pure functions of tensors. None of them is an attack: they use the truth
and models that only the auditor has.
"""
