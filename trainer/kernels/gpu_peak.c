/* gpu_peak.c - what a GPU could do at best, by the name that its driver gives it. */
#include <string.h>

#include "trainer/kernels.h"

/* TFLOP/s of the vendor's data sheets at boost clock: dense (without structured sparsity), bfloat16 on the matrix units with
 * float32 sums, float32 on the ordinary ones, since products of float32 do not use TF32. A name has all of an entry's words;
 * the first that fits counts. 0: not known. */
typedef struct gpu {
  const char *words;
  double bfloat16, float32;
} gpu;

static const gpu gpus[] = {
    {"B200", 2250, 75},      {"GH200", 989.4, 66.9},     {"H200 NVL", 835.5, 60},    {"H200", 989.4, 66.9},
    {"H100 NVL", 835.5, 60}, {"H100 PCIe", 756.5, 51.2}, {"H100 HBM3", 989.4, 66.9}, {"A100", 312, 19.5},
    {"A800", 312, 19.5},     {"A40", 149.7, 37.4},       {"A30", 165, 10.3},         {"A10", 125, 31.2},
    {"L40S", 362, 91.6},     {"L40", 181, 90.5},         {"L4", 121, 30.3},
};

/* Whether one of the name's words, which spaces and dashes part, is these `length` letters. */
static bool has_word(const char *name, const char *word, size_t length) {
  while (*name) {
    size_t here = strcspn(name, " -");
    if (here == length && !strncmp(name, word, length)) return true;
    name += here;
    name += strspn(name, " -");
  }
  return false;
}

static bool fits(const char *name, const char *words) {
  while (*words) {
    size_t length = strcspn(words, " ");
    if (!has_word(name, words, length)) return false;
    words += length;
    words += strspn(words, " ");
  }
  return true;
}

/* Whether one of the name's words is the profile of a virtual GPU: its gigabytes and a letter, as in "L40S-48Q", or with a MIG
 * part below it "A100-1-5CME". */
static bool has_profile(const char *name) {
  while (*name) {
    size_t length = strcspn(name, " -"), digits = strspn(name, "0123456789");
    if (digits > 0 && digits < length && strchr("ABCQ", name[digits]) &&
        (length == digits + 1 || (length == digits + 3 && !strncmp(name + digits + 1, "ME", 2))))
      return true;
    name += length;
    name += strspn(name, " -");
  }
  return false;
}

double gd_gpu_peak_flops(const char *name, gd_dtype dtype) {
  if (has_word(name, "MIG", 3) || has_word(name, "GRID", 4) || has_profile(name)) return 0.0; /* a part of one */
  for (size_t i = 0; i < sizeof gpus / sizeof *gpus; i++)
    if (fits(name, gpus[i].words)) return 1e12 * (dtype == GD_BFLOAT16 ? gpus[i].bfloat16 : gpus[i].float32);
  return 0.0;
}
