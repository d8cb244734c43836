"""Run by test_sharded.py in a process of its own: devices are counted once.

    JAX_NUM_CPU_DEVICES=2 python tests/unrolls/sharded.py [CELL or LAYER ...]

Prints the largest difference between gradients on two devices and on one, by case.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "helpers"))

import all_models
import jax
import jax.numpy as jnp
import numpy as np
from cases import CELLS, I
from layer_cases import VOCAB

import jaxrnn
from jaxrnn import losses

Spec = jax.sharding.PartitionSpec
ROWS = Spec(None, "data")
MODELS = {
    **all_models.MODELS,
    "learned state": (jaxrnn.layer(jaxrnn.learned_state(jaxrnn.gru(5))), False),
    "plain unroll": (jaxrnn.layer(jaxrnn.gru(5), unroll_fn=jaxrnn.unroll), False),
    "chunked": (jaxrnn.layer(jaxrnn.gru(5), unroll_fn=jaxrnn.unroll_chunked), False),
}


def main(names):
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.integers(0, VOCAB, (6, 4)))
    mask = jnp.asarray(rng.random((6, 4)) < 0.8)
    for kind in ("shard_map", "explicit"):
        types = jax.sharding.AxisType
        axis = types.Auto if kind == "shard_map" else types.Explicit
        mesh = jax.make_mesh((2,), ("data",), axis_types=(axis,))
        for name in names:
            layer, of_tokens = MODELS[name]
            init = jax.jit(layer.init, static_argnums=(1, 2))
            params = init(jax.random.key(0), VOCAB if of_tokens else I, jnp.float64)
            space = CELLS[name].cell.spatial_shape if name in CELLS else ()
            values = rng.normal(size=(6, 4, *space, I))
            xs = tokens if of_tokens else jnp.asarray(values)

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
    main(sys.argv[1:] or MODELS)
