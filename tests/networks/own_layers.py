"""Layers and a model of a user's own, in one file that a study may name."""

import keras
from keras import layers, ops


class Own(keras.Layer):
    """Dense, with weights of names that Keras's own layers do not have."""

    def __init__(self, units, **named):
        super().__init__(**named)
        self.units = units

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], self.units), name="w")
        self.v = self.add_weight(shape=(self.units,), name="v")

    def call(self, x):
        return swoosh(ops.matmul(x, self.w) + self.v)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("mine")
class Registered(Own):
    """Under a name that Keras is told."""


class Silent(Own):
    """Says nothing of its arguments, so that it cannot be made again."""

    def get_config(self):
        return keras.Layer.get_config(self)


class Net(keras.Model):
    """A subclassed model."""

    def __init__(self, **named):
        super().__init__(**named)
        self.flat, self.first, self.last = layers.Flatten(), layers.Dense(6, "relu"), layers.Dense(4)

    def call(self, x):
        return self.last(self.first(self.flat(x)))


class Single(Net):
    """One whose output is a probability, of which its graph says nothing."""

    def __init__(self, **named):
        super().__init__(**named)
        self.last = layers.Dense(1, "sigmoid")


def swoosh(x):
    return x * ops.sigmoid(x)


def build():
    model = Net()
    model(ops.zeros((1, 8, 8, 3)))
    return model


def build_single():
    model = Single()
    model(ops.zeros((1, 8, 8, 3)))
    return model
