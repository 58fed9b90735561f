"""The flags that decide what is trained and how: a recipe."""

from absl import flags

# A default that `history_defaults` makes.
_BY_DENSITY = "for --model=history by the log's rows a user"

SEED = flags.DEFINE_integer(
  'seed', 0, 'Of initial weights, order, negatives and dropout.', lower_bound=0
)

MODEL = flags.DEFINE_enum(
  'model',
  'neumf',
  ['neumf', 'gmf', 'mlp', 'history'],
  'NeuMF (He et al. 2017), one of its halves alone, or a model that remembers what '
  'a user took last.',
)
GMF_DIM = flags.DEFINE_integer('gmf_dim', 32, "Width of GMF's vectors.", lower_bound=1)
MLP_DIM = flags.DEFINE_integer(
  'mlp_dim',
  32,
  "Width of the MLP's user vectors, and of its item vectors.",
  lower_bound=1,
)
MLP_LAYERS = flags.DEFINE_list(
  'mlp_layers', ['256', '128', '64'], "Units of the MLP's layers, comma-separated."
)
DROPOUT = flags.DEFINE_float(
  'dropout',
  None,
  "Dropout rate: on the MLP's output, or on encoded history, user and hidden layer. "
  f'Default: 0, {_BY_DENSITY}.',
  0.0,
  0.99,
)
ITEM_BIAS = flags.DEFINE_bool('item_bias', False, 'Learns a bias of each item.')
GMF_WEIGHTS = flags.DEFINE_bool(
  'gmf_weights',
  True,
  "Learns the weights of GMF's product, from ones; without, it is a dot product.",
)
STDDEV = flags.DEFINE_float(
  'embedding_initializer_stddev',
  0.05,
  'Standard deviation of the normal distribution that embeddings start from.',
  0.0,
)

PRETRAINED_GMF = flags.DEFINE_string(
  'pretrained_gmf', None, 'Run of --model=gmf that a NeuMF starts from.'
)
PRETRAINED_MLP = flags.DEFINE_string(
  'pretrained_mlp', None, 'Run of --model=mlp that a NeuMF starts from.'
)
PRETRAINED_ALPHA = flags.DEFINE_float(
  'pretrained_alpha', 0.5, 'Share of the pretrained GMF in the logit.', 0.0, 1.0
)

HISTORY_ENCODER = flags.DEFINE_enum(
  'history_encoder',
  'pool',
  ['pool', 'attention', 'both', 'none'],
  'What --model=history makes of past items: sums weighed by lag, causal '
  'self-attention, both, or nothing (matrix factorisation).',
)
HISTORY_LENGTH = flags.DEFINE_integer(
  'history_length',
  None,
  f'Latest items that --model=history looks at. Default: {_BY_DENSITY}.',
  lower_bound=2,
)
HISTORY_DIM = flags.DEFINE_integer(
  'history_dim',
  None,
  f"Width of --model=history's vectors. Default: {_BY_DENSITY}.",
  lower_bound=1,
)
HISTORY_HEADS = flags.DEFINE_integer(
  'history_heads', 8, 'Heads of the encoder.', lower_bound=1
)
HISTORY_HIDDEN = flags.DEFINE_integer(
  'history_hidden',
  None,
  "Units of the query network's hidden layer. Default: twice --history_dim.",
  lower_bound=1,
)
USER_EMBEDDING = flags.DEFINE_bool(
  'user_embedding',
  None,
  f'Learns a vector of each user for --model=history. Default: {_BY_DENSITY}.',
)
MEMBERS = flags.DEFINE_integer(
  'members',
  1,
  'Networks of --model=history that are trained side by side and whose logits are '
  'averaged.',
  lower_bound=1,
)
SUCCESSOR_LOGITS = flags.DEFINE_float(
  'successor_logits',
  None,
  "Weight of log(--successor_smoothing + the dataset's successor scores) in the "
  f'logits of a trained --model=history. Default: {_BY_DENSITY}, 0 without successors.',
  0.0,
)
SUCCESSOR_SMOOTHING = flags.DEFINE_float(
  'successor_smoothing', 0.01, 'What is added to successor scores.', 1e-9
)
SUCCESSOR_REVERSE = flags.DEFINE_float(
  'successor_reverse',
  None,
  f'Weight of successors counted backwards in time. Default: {_BY_DENSITY}.',
  0.0,
)

LOSS = flags.DEFINE_enum(
  'loss',
  'bce',
  ['bce', 'softmax', 'bpr'],
  'Binary cross-entropy, sampled softmax over a positive and its negatives, or '
  'Bayesian personalised ranking.',
)
NEGATIVES = flags.DEFINE_enum(
  'negatives',
  'fresh',
  ['fresh', 'static'],
  'Negatives drawn anew every epoch from what the user has no train row of, or '
  "those of the dataset's records.",
)
NUM_NEGATIVES = flags.DEFINE_integer(
  'num_negatives', 4, 'Negatives a row.', lower_bound=1
)
SHARED = flags.DEFINE_integer(
  'shared_negatives',
  0,
  'If not 0, draws so many negatives for a whole batch, instead of --num_negatives '
  "a row. Of these only a row's own positive is masked. --model=history shares always, "
  'and takes the whole catalogue for 0.',
  lower_bound=0,
)
BY_USER = flags.DEFINE_bool(
  'batch_by_user',
  False,
  "Keeps a user's rows together in a batch, so that --shared_negatives are scored "
  'once a user, and masks all that these rows hold.',
)
SAMPLER = flags.DEFINE_enum(
  'sampler',
  'uniform',
  ['uniform', 'popularity'],
  'What fresh and shared negatives are drawn from: all items alike, or in '
  'proportion to train rows ** --popularity_exponent.',
)
EXPONENT = flags.DEFINE_float(
  'popularity_exponent', 0.5, 'Exponent of --sampler=popularity.'
)
LOGQ = flags.DEFINE_bool(
  'logq_correction',
  False,
  "Takes the log of its expected count off a negative's logit, with --loss=softmax; "
  '--model=history always does.',
)
L2 = flags.DEFINE_float(
  'l2',
  None,
  'Strength of the mean over rows of |user|^2 + |positive|^2 + mean |negative|^2; '
  f'of the first two alone with --model=history. Default: 0, {_BY_DENSITY}.',
  0.0,
)
L2_TABLES = flags.DEFINE_float(
  'l2_tables', 0.0, 'Strength of the sum of squares of whole embedding tables.', 0.0
)
RECENCY = flags.DEFINE_float(
  'recency',
  0.0,
  'A row that is d rows before the last of its user weighs (1 + d)^-recency.',
  0.0,
)

OPTIMIZER = flags.DEFINE_enum(
  'optimizer',
  'adam',
  ['adam', 'lazy_adam', 'adagrad', 'rmsprop', 'sgd'],
  "Keras's optimizers, and an Adam whose step touches used rows only.",
)
RATE = flags.DEFINE_float('learning_rate', 0.001, 'Learning rate.', 0.0)
DECAY = flags.DEFINE_float(
  'learning_rate_decay', 1.0, 'Factor on the learning rate after each epoch.', 0.0
)
COSINE = flags.DEFINE_bool(
  'cosine_decay',
  False,
  'The learning rate falls to 0 along a half cosine over --epochs.',
)
WARMUP = flags.DEFINE_integer(
  'warmup_steps', 0, 'Steps in which the learning rate rises linearly.', lower_bound=0
)
BETA_2 = flags.DEFINE_float(
  'beta_2', 0.999, "Decay of the Adams' second moment.", 0.0, 1.0
)
EPOCHS = flags.DEFINE_integer(
  'epochs', 20, 'Passes over the train rows.', lower_bound=1
)
BATCH = flags.DEFINE_integer(
  'batch_size', 4096, 'Train rows a step, over all replicas.', lower_bound=1
)
AVERAGE = flags.DEFINE_float(
  'average_weights',
  0.0,
  'If not 0, momentum of a moving average of the weights, which is then judged '
  'and kept in their place.',
  0.0,
  0.99999,
)

STRATEGY = flags.DEFINE_enum(
  'strategy',
  'default',
  ['default', 'mirrored'],
  'One device, or a replica on each of the devices of this machine.',
)
LOGICAL_CPUS = flags.DEFINE_integer(
  'logical_cpus',
  1,
  'Splits the CPU into so many devices, to try --strategy=mirrored without GPUs.',
  lower_bound=1,
)
PRECISION = flags.DEFINE_enum(
  'mixed_precision',
  'off',
  ['off', 'bfloat16', 'float16'],
  'What layers compute in; weights and logits stay float32.',
)
