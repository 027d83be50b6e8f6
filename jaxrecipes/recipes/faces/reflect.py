"""New identities: pairs of embeddings whose coordinates change sign together."""

import jax
import jax.numpy as jnp

Array = jax.Array


def reflect_people(
    key: Array, batch: dict[str, Array], probability: jax.typing.ArrayLike
) -> dict[str, Array]:
    """Gives each person of a batch, with a probability, random signs on the coordinates of `src`
    and `tgt`.

    Lengths and the cosine between source and target stay as they are, and so does who is the same
    as whom; but the pair lies in another place, as if it were somebody else's. So a network trained
    on few people learns what is true of everybody, such as which coordinates to trust, instead of
    memorising their faces. What is lost is a drift that has the same direction for everybody.

    Our own, for data with few people; not part of the original.

    Args:
      key: of the draws; two batches with one key have the same signs for the same person.
      batch: `src` `[B, D]`, `tgt` `[B, D]`, `person` int `[B]`; the rest is left as it is.
      probability: chance that a person is reflected, for each one anew.
    """
    width = batch["src"].shape[-1]
    chance, half = jnp.float32(probability), jnp.float32(0.5)

    def draw(person: Array) -> Array:
        chance_key, sign_key = jax.random.split(jax.random.fold_in(key, person))
        signs = 2.0 * jax.random.bernoulli(sign_key, half, (width,)).astype(jnp.float32) - 1.0
        return jnp.where(jax.random.bernoulli(chance_key, chance), signs, 1.0)

    signs = jax.vmap(draw)(batch["person"])
    return batch | {"src": signs * batch["src"], "tgt": signs * batch["tgt"]}
