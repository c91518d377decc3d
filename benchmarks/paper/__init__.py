"""The questions of Hu et al. 2024 (arXiv 2404.03233), answered with audits: `make paper`."""
