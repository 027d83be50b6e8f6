"""Trees for the checkpoint tests and for the processes that they start."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

SPECS = {
    "large": P("data", None),
    "small": P(None, "data"),
    "bias": P(),
    "whole": P(),
    "step": P(),
}


def filled(step):
    """Tells by its values which step it is."""
    return {"small": jnp.full(10, step), "large": jnp.full(400_000, step)}


def host_tree():
    draw = np.random.default_rng(0)
    return {
        "large": draw.normal(size=(1024, 512)).astype(np.float32),
        "small": draw.normal(size=(16, 8)).astype(np.float32),
        "bias": draw.normal(size=(8,)).astype(np.float32).astype("bfloat16"),
        "whole": draw.normal(size=(1024, 300)).astype(np.float32),
        "step": np.int32(7),
    }


def keys():
    return jax.random.split(jax.random.key(5), 16)


def device_tree(specs=SPECS):
    """`host_tree` and PRNG keys over all devices of all processes."""
    mesh = Mesh(np.array(jax.devices()), ("data",))

    def place(name, x):
        sharding = NamedSharding(mesh, specs[name])
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    tree = {name: place(name, x) for name, x in host_tree().items()}
    split = jax.jit(keys, out_shardings=NamedSharding(mesh, P("data")))
    return {**tree, "keys": split()}


def assert_equal(tree, like):
    """`tree` has the values of `device_tree` bit for bit, and the shardings of `like`."""
    expected = {**host_tree(), "keys": jax.random.key_data(keys())}
    for name, leaf in tree.items():
        assert leaf.sharding.is_equivalent_to(like[name].sharding, leaf.ndim), name
        data = jax.random.key_data(leaf) if name == "keys" else leaf
        for shard in data.addressable_shards:
            want = np.asarray(expected[name][shard.index])
            assert np.asarray(shard.data).tobytes() == want.tobytes(), name
