"""The classes and functions of Keras that a model file may name: those made of numbers, words and one another.

None of these opens a file, calls a function that the file names, or keeps a table of strings. What is not listed is
refused, so a class that a later Keras adds is refused until it is looked at and added here.
"""

from __future__ import annotations

from collections.abc import Mapping


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


LAYERS = _words(
    """
    Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D
    AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add AdditiveAttention AlphaDropout Attention
    AugMix AutoContrast Average AveragePooling1D AveragePooling2D AveragePooling3D AvgPool1D AvgPool2D AvgPool3D
    BatchNormalization Bidirectional CategoryEncoding CenterCrop Concatenate Conv1D Conv1DTranspose Conv2D
    Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Convolution1D Convolution1DTranspose
    Convolution2D Convolution2DTranspose Convolution3D Convolution3DTranspose Cropping1D Cropping2D Cropping3D
    CutMix Dense DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout ELU EinsumDense Embedding Equalization
    Flatten GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D
    GlobalAveragePooling3D GlobalAvgPool1D GlobalAvgPool2D GlobalAvgPool3D GlobalMaxPool1D GlobalMaxPool2D
    GlobalMaxPool3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization GroupQueryAttention
    GroupedQueryAttention Identity InputLayer LSTM LSTMCell LayerNormalization LeakyReLU Masking MaxPool1D MaxPool2D
    MaxPool3D MaxPooling1D MaxPooling2D MaxPooling3D Maximum MelSpectrogram Minimum MixUp MultiHeadAttention Multiply
    Normalization PReLU Permute Pipeline RMSNormalization RNN RandAugment RandomBrightness RandomColorDegeneration
    RandomColorJitter RandomContrast RandomCrop RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur
    RandomGrayscale RandomHeight RandomHue RandomInvert RandomPerspective RandomPosterization RandomRotation
    RandomSaturation RandomSharpness RandomShear RandomTranslation RandomWidth RandomZoom ReLU RepeatVector Rescaling
    Reshape Resizing ReversibleEmbedding STFTSpectrogram SeparableConv1D SeparableConv2D SeparableConvolution1D
    SeparableConvolution2D SimpleRNN SimpleRNNCell Softmax Solarization SpatialDropout1D SpatialDropout2D
    SpatialDropout3D SpectralNormalization StackedRNNCells Subtract ThresholdedReLU TimeDistributed UnitNormalization
    UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
    """
)

MODELS: Mapping[str, tuple[str, ...]] = {
    "Sequential": ("keras", "keras.models", "keras.src.models.sequential", "keras.src.engine.sequential"),
    "Functional": (
        "keras",
        "keras.models",
        "keras.src.models.functional",
        "keras.src.engine.functional",
        "keras.engine.functional",
    ),
    "Model": ("keras", "keras.models", "keras.src.models.model", "keras.src.engine.training"),
}
"""Class → the modules under which Keras 2 and 3 wrote it."""

OPERATIONS: Mapping[str, frozenset[str]] = {
    "numpy": _words(
        """
        Abs Absolute Add All Amax Amin Angle Any Append Arccos Arccosh Arcsin Arcsinh Arctan Arctan2 Arctanh Argmax
        Argmin Argpartition Argsort Array ArraySplit Average BitwiseAnd BitwiseInvert BitwiseLeftShift BitwiseNot
        BitwiseOr BitwiseRightShift BitwiseXor BroadcastTo Cbrt Ceil Clip Concatenate Conj Conjugate Copy Cos Cosh
        CountNonzero Cross Cumprod Cumsum Deg2rad Diag Diagonal Diff Digitize Divide DivideNoNan Dot Dstack Einsum
        Equal Exp Exp2 ExpandDims Expm1 Fabs Flip Fliplr Flipud Floor FloorDivide Fmax Fmin Fmod FullLike GetItem
        Greater GreaterEqual Heaviside Hsplit Hstack Hypot Imag Inner Isclose Isfinite Isinf Isnan Isneginf Isposinf
        Isreal Kron LeftShift Less LessEqual Log Log10 Log1p Log2 Logaddexp Logaddexp2 LogicalAnd LogicalNot LogicalOr
        LogicalXor Matmul Max Maximum Mean Median Meshgrid Min Minimum Mod Moveaxis Multiply NanToNum Nanmax Nanmean
        Nanmin Nansum Negative NotEqual OnesLike Outer Pad Power Prod Ptp Quantile Rad2deg Ravel Real Reciprocal Repeat
        Reshape RightShift Roll Rot90 Round Select Sign Signbit Sin Sinc Sinh Sort Split Sqrt Square Squeeze Stack Std
        Subtract Sum Swapaxes Take TakeAlongAxis Tan Tanh Tensordot Tile Trace Transpose Tril Triu TrueDivide Trunc
        Var Vdot View Vsplit Vstack Where ZerosLike
        """
    ),
    "nn": _words(
        """
        AdaptiveAveragePool AdaptiveMaxPool AveragePool BatchNorm Celu Conv ConvTranspose DepthToSpace DepthwiseConv
        DotProductAttention Elu Fold Gelu Glu HardShrink HardSigmoid HardSilu HardTanh LayerNorm LeakyRelu LogSigmoid
        LogSoftmax MaxPool Moments MultiHot Normalize OneHot Polar RMSNorm Relu Relu6 Selu SeparableConv Sigmoid Silu
        SoftShrink Softmax Softplus Softsign SpaceToDepth SparsePlus SparseSigmoid Sparsemax Squareplus TanhShrink
        Threshold Unfold
        """
    ),
    "math": _words(
        "Erf Erfc Erfinv ExtractSequences FFT FFT2 IFFT2 IRFFT ISTFT InTopK Logsumexp RFFT Rsqrt STFT SegmentMax "
        "SegmentSum TopK"
    ),
    "linalg": _words("Det Inv Norm Solve SolveTriangular"),
    "image": _words(
        "AffineTransform CropImages ExtractPatches GaussianBlur HSVToRGB PadImages RGBToGrayscale RGBToHSV Resize "
        "SobelEdges"
    ),
    "core": _words("Cast ConvertToTensor SaturateCast Slice StopGradient Unstack"),
    "einops": frozenset({"Rearrange"}),
}
"""Module of `keras.src.ops` → what a functional model holds for `x + y`, `keras.ops.relu(x)` and the like."""

ACTIVATIONS = _words(
    """
    celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear log_sigmoid
    log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus sparse_sigmoid
    sparsemax squareplus swish tanh tanh_shrink threshold
    """
)

INITIALIZERS = _words(
    """
    Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity IdentityInitializer LecunNormal LecunUniform Ones
    Orthogonal OrthogonalInitializer RandomNormal RandomUniform STFT STFTInitializer TruncatedNormal VarianceScaling
    Zeros
    """
)
REGULARIZERS = _words("L1 L1L2 L2 OrthogonalRegularizer")
CONSTRAINTS = _words("MaxNorm MinMaxNorm NonNeg UnitNorm")
POLICIES = _words("DTypePolicy DTypePolicyMap FloatDTypePolicy Int4DTypePolicy Policy QuantizedDTypePolicy")
QUANTIZERS = _words("AbsMaxQuantizer Int4QuantizationConfig Int8QuantizationConfig")

OPTIMIZERS = _words(
    "Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lamb Lion LossScaleOptimizer Muon Nadam RMSprop SGD "
    "ScheduleFreeAdamW"
)
SCHEDULES = _words(
    "CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay PiecewiseConstantDecay PolynomialDecay"
)
LOSSES = _words(
    """
    BinaryCrossentropy BinaryFocalCrossentropy CTC CategoricalCrossentropy CategoricalFocalCrossentropy
    CategoricalGeneralizedCrossEntropy CategoricalHinge Circle CosineSimilarity Dice Hinge Huber KLDivergence LogCosh
    MeanAbsoluteError MeanAbsolutePercentageError MeanSquaredError MeanSquaredLogarithmicError Poisson
    SparseCategoricalCrossentropy SquaredHinge Tversky
    """
)
METRICS = _words(
    """
    AUC Accuracy BinaryAccuracy BinaryCrossentropy BinaryIoU CategoricalAccuracy CategoricalCrossentropy
    CategoricalHinge ConcordanceCorrelation CosineSimilarity F1Score FBetaScore FalseNegatives FalsePositives Hinge IoU
    KLDivergence LogCoshError Mean MeanAbsoluteError MeanAbsolutePercentageError MeanIoU MeanSquaredError
    MeanSquaredLogarithmicError OneHotIoU OneHotMeanIoU PearsonCorrelation Poisson Precision PrecisionAtRecall R2Score
    Recall RecallAtPrecision RootMeanSquaredError SensitivityAtSpecificity SparseCategoricalAccuracy
    SparseCategoricalCrossentropy SparseTopKCategoricalAccuracy SpecificityAtSensitivity SquaredHinge Sum
    TopKCategoricalAccuracy TrueNegatives TruePositives
    """
)
MEASURES = _words(
    """
    binary_accuracy binary_crossentropy binary_focal_crossentropy categorical_accuracy categorical_crossentropy
    categorical_focal_crossentropy categorical_hinge cosine_similarity dice hinge huber kl_divergence log_cosh
    mean_absolute_error mean_absolute_percentage_error mean_squared_error mean_squared_logarithmic_error poisson
    sparse_categorical_accuracy sparse_categorical_crossentropy sparse_top_k_categorical_accuracy squared_hinge
    top_k_categorical_accuracy tversky
    """
)
"""Losses and metrics that are functions; they stand in a compiled model within a model."""

QUANTIZED = _words(
    """
    AWQConfig AWQDTypePolicy Float8QuantizationConfig GPTQConfig GPTQDTypePolicy QuantizedFloat8DTypePolicy
    """
)
"""What tells that Keras has quantized the layer around it, otherwise than to int8 or int4."""

_QUANTIZED = (
    "is quantized by Keras to float8 or by GPTQ or AWQ; give the network as it was before quantize(), or quantized to "
    'int8 or int4, or let the study round it: { op = "symmetric", bits = 8 }'
)
PRUNING = _words("PruneLowMagnitude ClusterWeights QuantizeLayer QuantizeWrapper QuantizeWrapperV2 QuantizeAnnotate")
_PRUNING = (
    "is a wrapper of tensorflow_model_optimization; save what strip_pruning(model) or strip_clustering(model) gives, "
    'or the network before quantize_model, and let the study round it: { op = "symmetric", bits = 8 }'
)
QKERAS = _words(
    """
    QActivation QAdaptiveActivation QAveragePooling2D QBatchNormalization QBidirectional QConv1D QConv2D
    QConv2DBatchnorm QConv2DTranspose QDense QDepthwiseConv2D QDepthwiseConv2DBatchnorm QGRU QGlobalAveragePooling2D
    QLSTM QMobileNetSeparableConv2D QSeparableConv1D QSeparableConv2D QSimpleRNN
    """
)
_QKERAS = (
    "is a layer of QKeras, which works with Keras 2 alone; set its weights in the same network of Keras's own layers, "
    'and let the study round them: { op = "fixed_point_saturating", bits = 8 }'
)
_LOOKUP = "can read a vocabulary from a path that the file gives"
_TYPES = "names a class of TensorFlow to be built"
REASONS: Mapping[str, str] = {
    "__lambda__": "is code stored in the file, which loading would run",
    "Lambda": "runs code stored in the file; make it a layer of your own (custom_objects), or say --trust-model if the "
    "file is yours",
    **dict.fromkeys(("TFOpLambda", "SlicingOpLambda"), "calls a function of TensorFlow that the file names"),
    "TensorFlowOpLayer": "runs a graph of TensorFlow stored in the file",
    "TFSMLayer": "loads a TensorFlow program from a path that the file gives",
    "TorchModuleWrapper": "unpickles a PyTorch module, which can run any code",
    **dict.fromkeys(("JaxLayer", "FlaxLayer"), "calls functions that the file names"),
    **dict.fromkeys(("StringLookup", "IntegerLookup", "TextVectorization"), _LOOKUP),
    **dict.fromkeys(QUANTIZED, _QUANTIZED),
    **dict.fromkeys(PRUNING, _PRUNING),
    **dict.fromkeys(QKERAS, _QKERAS),
    **dict.fromkeys(("Hashing", "HashedCrossing"), "takes words, not images"),
    **dict.fromkeys(("__typespec__", "TypeSpec", "CompositeTensor"), _TYPES),
}
"""Why the best-known of the others are refused."""


def _pairs(modules: Mapping[str, frozenset[str]]) -> frozenset[tuple[str, str]]:
    return frozenset((module, name) for module, names in modules.items() for name in names)


PLACES = frozenset((module, name) for name, modules in MODELS.items() for module in modules) | _pairs(
    {
        "keras.layers": LAYERS,
        **{f"keras.src.ops.{part}": names for part, names in OPERATIONS.items()},
        "keras.initializers": INITIALIZERS,
        "keras.regularizers": REGULARIZERS,
        "keras.constraints": CONSTRAINTS,
        **dict.fromkeys(("keras", "keras.dtype_policies", "keras.mixed_precision"), POLICIES),
        "keras.quantizers": QUANTIZERS,
        "keras.src.applications.convnext": frozenset({"LayerScale"}),
        **dict.fromkeys(("keras.random", "keras.src.random.seed_generator"), frozenset({"SeedGenerator"})),
    }
)
"""The pairs (module, class) of a network."""

TRAINING_PLACES = _pairs(
    {
        "keras.optimizers": OPTIMIZERS,
        "keras.optimizers.schedules": SCHEDULES,
        "keras.losses": LOSSES,
        "keras.metrics": METRICS,
    }
)
"""The further pairs with which a model within the model was compiled: Keras restores these, even uncompiled."""

NAMES = frozenset(name for _, name in PLACES)
"""The class names alone, as files of Keras 2 and most .h5 files give them."""
