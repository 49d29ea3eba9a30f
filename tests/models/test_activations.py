"""What a training step keeps of an image, counted by hand."""

from keras import Input, Model, Sequential, layers

from qknb.models.activations import activation_values
from qknb.models.layers import FrozenBatchNormalization


def test_activation_values_of_a_small_trunk():
    """By hand: the image, what swish is given, what it gives, the other factor, the product, what
    the nested ReLU gives; three times the image.
    """
    image = Input((4, 4, 3))
    x = FrozenBatchNormalization()(layers.Conv2D(2, 1)(image))
    x = layers.Activation("silu")(x)
    x = layers.Multiply()([x, layers.Conv2D(2, 1, name="gate")(x)])
    x = layers.Add()([layers.DepthwiseConv2D(1)(x), x])
    inner = Sequential([Input((4, 4, 2)), layers.ReLU()])
    trunk = Model(image, layers.GlobalAveragePooling2D()(inner(x)))
    assert activation_values(trunk) == 48 + 5 * 32 + 3 * 48
