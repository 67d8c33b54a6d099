// The table of training's options alone: other commands, lvc too, must know these names when they read a configuration file.
#include "pairing.h"
#include "train_options.h"

const OptionSpec train_option_specs[] = {
    {"train-dir", OPTION_VALUE, "DATA", "pictures: a folder of any depth, tar shards, LIST.tsv, COCO.json, fake:N; text:PATH"},
    {"val-dir", OPTION_VALUE, "DATA", "the same to validate with (default: no validation); text:PATH:90-100%, a part of it"},
    {"out", OPTION_VALUE, "DIR", "the run's folder (default runs/MODEL[-CONFIG]); run again, it goes on"},
    {"fresh", OPTION_FLAG, NULL, "throw away an earlier run in that folder"},
    {"epochs", OPTION_VALUE, "N", "passes over the pictures (default 30, unless --steps is given)"},
    {"steps", OPTION_VALUE, "N", "stop after so many updates"},
    {"batch-size", OPTION_VALUE, "N", "pictures a step and rank (default 8)"},
    {"accumulate", OPTION_VALUE, "N", "runs that one update sums up (default 1)"},
    {"learning-rate", OPTION_VALUE, "X", "base rate: times ranks times batch size (default: the model's learning_rate)"},
    {"lr", OPTION_VALUE, "X", "the rate itself; beats --learning-rate"},
    {"schedule", OPTION_VALUE, "S", "constant, plateau or cosine (default constant; with --lr-decay plateau)"},
    {"lr-decay", OPTION_FLAG, NULL, "as in the original: the plateau schedule"},
    {"warmup", OPTION_VALUE, "N", "steps over which the rate rises from 0 (default 0)"},
    {"clip", OPTION_VALUE, "X", "bound of the gradient's norm; 0: none (default: none; models of text 1)"},
    {"loss-scale", OPTION_VALUE, "X", "f16: what the loss is multiplied by at first, 1 to 2^24 (default 65536); it adapts"},
    {"seed", OPTION_VALUE, "N", "of initial values, order and random operations (default 42)"},
    {"crop", OPTION_VALUE, "C", "random (area 0.75 to 1, the default) or center"},
    {"resize-ratio", OPTION_VALUE, "X", "least share of the area in a random crop (default 0.75)"},
    {"flip", OPTION_FLAG, NULL, "mirror half of the pictures; --no-flip (default)"},
    {"img-size", OPTION_VALUE, "N", "the model's `resolution`"},
    {"init", OPTION_VALUE, "[P=]FILE", "start from FILE's tensors of equal name and shape; P: a prefix; repeatable"},
    {"val-every", OPTION_VALUE, "N", "validate each N steps (default: after each epoch)"},
    {"val-limit", OPTION_VALUE, "N", "pictures of a validation (default: all)"},
    {"save-every", OPTION_VALUE, "N", "save each N steps (default: after each epoch); also at the best validation and the end"},
    {"keep", OPTION_VALUE, "K", "step-N checkpoints to keep (default 3)"},
    {"limit-train-batches", OPTION_VALUE, "X", "batches of an epoch to use: a number; 1.0: all (default)"},
    {"num-workers", OPTION_VALUE, "N", "threads that read pictures (default 2)"},
    {"fake-data", OPTION_FLAG, NULL, "made-up pictures instead of --train-dir and --val-dir"},
    {"gpus", OPTION_VALUE, "N", "GPUs of this machine to train on, a rank each; -1: all (default 0: the CPU)"},
    {"ranks", OPTION_VALUE, "N", "processes that train together, started by mpirun; several machines: mpirun or srun lvrun"},
    PAIRING_OPTIONS,
    {"text-to-image-share", OPTION_VALUE, "S", "of the samples that are learnt from text to picture, 0 to 1 (default 0.5)"},
    {"cache-tokens", OPTION_FLAG, NULL, "encode pictures once, as centre crops, into a file that later epochs and runs read"},
    {"cache-variants", OPTION_VALUE, "N", "the same with N random crops of each picture, which take turns"},
    {"cache-dir", OPTION_VALUE, "DIR", "where such files are (default $LV_CACHE_DIR/codes, else ~/.cache/lverse/codes)"},
    {"samples", OPTION_VALUE, "K", "pairs of --val-dir that are drawn and described at each validation (default 4; 0: none)"},
    {"profile", OPTION_VALUE, "N", "after step N + 1 a table of where the time of N steps went, on stderr"},
    {"tensorboard", OPTION_FLAG, NULL, "write TensorBoard events (the default; --no-tensorboard)"},
    {"resume", OPTION_FLAG, NULL, "taken and needless: a run in --out always goes on"},
    {"log-dir", OPTION_VALUE, "DIR", "the original's name of --out"},
    {"set", OPTION_VALUE, "NAME=VALUE", "a parameter of the model; --NAME VALUE does the same"},
    MODEL_OPTIONS,
    {"num-sanity-val-steps", OPTION_VALUE, "N", NULL},  // of the original, without effect here
    {"refresh-rate", OPTION_VALUE, "N", NULL},
    {"use-tpus", OPTION_FLAG, NULL, NULL},
    {"xla-stat", OPTION_FLAG, NULL, NULL},
    {"debug", OPTION_FLAG, NULL, NULL},
    {"backup", OPTION_FLAG, NULL, NULL},
    {"backup-dir", OPTION_VALUE, "DIR", NULL},
    {"log-images", OPTION_FLAG, NULL, NULL},  // each validation leaves its pictures in images/ and in the events
    {"image-log-steps", OPTION_VALUE, "N", NULL},
    {"gpu-dist", OPTION_FLAG, NULL, NULL},
    {"web-dataset", OPTION_FLAG, NULL, NULL},  // tar shards are known by their names
    {"dataset-size", OPTION_NUMBERS, "N", NULL},
    {"finetune", OPTION_FLAG, NULL, NULL},  // models/augvae_sl.lv is a model of its own
    {"backup-steps", OPTION_VALUE, "N", NULL},  // --save-every
    {"pretrained-path", OPTION_VALUE, "FILE", NULL},  // --init
    {"ckpt-path", OPTION_VALUE, "FILE", NULL},
    {"val-percent-check", OPTION_VALUE, "N", NULL},
    {"codebook-weight", OPTION_VALUE, "X", NULL},  // the loss of the codebook is 1
    {"limit-test-batches", OPTION_VALUE, "X", NULL},
    {"help", OPTION_FLAG, NULL, "this text"},
    {0},
};
