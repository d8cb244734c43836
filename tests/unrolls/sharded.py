"""Run by test_sharded.py in a process of its own: two devices must be asked for first.

    python tests/unrolls/sharded.py [LAYER ...]

Prints the largest difference between gradients on two devices and on one, by case.
"""

import os
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from jaxrnn import losses

Spec = jax.sharding.PartitionSpec
ROWS = Spec(None, "data")
CELLS = {
    "elman": jaxrnn.elman(5),
    "lstm": jaxrnn.lstm(5),
    "gru": jaxrnn.gru(5),
    "mingru": jaxrnn.mingru(5),
    "slstm": jaxrnn.slstm(5),
    "learned state": jaxrnn.learned_state(jaxrnn.gru(5)),
}
LAYERS = {
    **{name: jaxrnn.layer(cell) for name, cell in CELLS.items()},
    "plain unroll": jaxrnn.layer(jaxrnn.gru(5), unroll_fn=jaxrnn.unroll),
    "chunked": jaxrnn.layer(jaxrnn.gru(5), unroll_fn=jaxrnn.unroll_chunked),
    "two directions": jaxrnn.bidirectional(jaxrnn.gru(5), jaxrnn.lstm(4)),
    "tokens": jaxrnn.stack(
        jaxrnn.embedding(9, 3), jaxrnn.layer(jaxrnn.gru(5)), jaxrnn.dense(9)
    ),
    "tied tokens": jaxrnn.tied(jaxrnn.layer(jaxrnn.gru(4)), 9),
    "stack": jaxrnn.stack(jaxrnn.layer(jaxrnn.lstm(5)), jaxrnn.dense(2)),
}


def main(names):
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(0)
    values = jnp.asarray(rng.normal(size=(6, 4, 3)))
    tokens = jnp.asarray(rng.integers(0, 9, (6, 4)))
    mask = jnp.asarray(rng.random((6, 4)) < 0.8)
    for kind in ("shard_map", "explicit"):
        types = jax.sharding.AxisType
        axis = types.Auto if kind == "shard_map" else types.Explicit
        mesh = jax.make_mesh((2,), ("data",), axis_types=(axis,))
        for name in names:
            layer = LAYERS[name]
            params = layer.init(jax.random.key(0), 3, jnp.float64)
            xs = tokens if "tokens" in name else values

            def gradient(params, xs, mask, layer=layer):
                def loss(params):
                    ys = layer.apply(params, xs, mask=mask)[1]
                    if jnp.issubdtype(xs.dtype, jnp.integer):
                        return losses.softmax_cross_entropy(
                            ys, xs, mask=mask, reduction=losses.masked_sum
                        )
                    return (ys**2).sum()

                return jax.grad(loss)(params)

            expected = jax.jit(gradient)(params, xs, mask)
            if kind == "shard_map":
                run = jax.shard_map(
                    gradient, mesh=mesh, in_specs=(Spec(), ROWS, ROWS), out_specs=Spec()
                )
                actual = jax.jit(run)(params, xs, mask)
            else:
                with jax.set_mesh(mesh):
                    place = jax.sharding.NamedSharding(mesh, ROWS)
                    data = (jax.device_put(each, place) for each in (xs, mask))
                    whole = jax.sharding.NamedSharding(mesh, Spec())
                    actual = jax.jit(gradient)(jax.device_put(params, whole), *data)
            differences = jax.tree.map(
                lambda a, b: np.abs(np.asarray(a) - np.asarray(b)).max(),
                jax.device_get(actual),
                jax.device_get(expected),
            )
            print(f"{kind}, {name}: {max(jax.tree.leaves(differences)):.1e}")


if __name__ == "__main__":
    main(sys.argv[1:] or LAYERS)
