"""The variational autoencoder of sentences: a text is a point in a latent space, from which a decoder writes it (Bowman et al. 2016)."""

from bimo.models.vae.config import VAEConfig
from bimo.models.vae.model import VAE

__all__ = ["VAE", "VAEConfig"]
