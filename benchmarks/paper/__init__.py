"""The questions of Hu et al. 2024 (arXiv 2404.03233), asked again through the queue: `make
paper`."""
