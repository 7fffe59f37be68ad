/* resume.c - is it the same run? What a resumed run changes is told or refused, key by key. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "io/config/config.h"
#include "shard/base/log.h"

typedef struct comparison {
  const char *allowed, *checkpoint;
  bool invariant; /* both runs */
  gd_status status;
} comparison;

/* Whether `name` stands in a list with commas. */
static bool is_listed(const char *list, const char *name) {
  size_t length = strlen(name);
  for (const char *p = list; p && *p; p += strcspn(p, ","), p += *p == ',')
    if (strcspn(p, ",") == length && !strncmp(p, name, length)) return true;
  return false;
}

/* tensor: "", or which one shows it. */
static gd_status refuse(const gd_config_key *key, const char *then, const char *now, const char *checkpoint,
                        const char *tensor) {
  return gd_fail_user(GD_USAGE,
                      "%s: found %s, expected %s as in %s, whose weights and moments belong to that%s; choose another "
                      "run.directory (model.init_from takes the weights alone), or --resume none",
                      key->name, now, then, checkpoint, tensor);
}

static void judge(void *context, const gd_config_key *key, const char *then, const char *now) {
  comparison *c = context;
  if (c->status != GD_OK) return;
  bool asked = key->change == GD_CHANGE_ASKED || (key->change == GD_CHANGE_BLOCKS && c->invariant);
  if (key->change == GD_CHANGE_NEVER)
    c->status = refuse(key, then, now, c->checkpoint, "");
  else if (asked && !is_listed(c->allowed, key->name))
    c->status = gd_fail_user(GD_USAGE,
                             "%s: found %s, expected %s as in %s; the run would go on with other numbers (--allow-change %s "
                             "goes on all the same)",
                             key->name, now, then, c->checkpoint, key->name);
  else if (asked || key->change == GD_CHANGE_TOLD)
    gd_log(GD_LOG_INFO, "resume: %s was %s, is now %s", key->name, *then ? then : "(empty)", *now ? now : "(empty)");
}

gd_status gd_config_resume_loss(const gd_spec *then, const gd_spec *now, const char *checkpoint) {
  const gd_config_key *key = gd_config_find("finetune.loss");
  char expected[GD_CONFIG_VALUE_BYTES], found[GD_CONFIG_VALUE_BYTES];
  gd_label_loss before = then->finetune.loss, after = now->finetune.loss;
  if (before == after || before == GD_LABEL_LOSS_AUTO || after == GD_LABEL_LOSS_AUTO) return GD_OK;
  gd_config_value(key, then, expected, sizeof expected);
  gd_config_value(key, now, found, sizeof found);
  return gd_fail_user(GD_USAGE,
                      "%s: found %s%s, expected %s as in %s, whose classifier has %d output%s; write %s: %s, or choose another "
                      "run.directory, or --resume none",
                      key->name, found,
                      after == GD_LABEL_LOSS_SOFTMAX ? ", which is what two labels have where nothing is said" : "", expected,
                      checkpoint, then->model.classes, then->model.classes == 1 ? "" : "s", key->name, expected);
}

gd_status gd_config_resume(const gd_spec *then, const gd_spec *now, const char *allowed, const char *checkpoint) {
  comparison c = {.allowed = allowed, .checkpoint = checkpoint};
  gd_spec before = *then;
  GD_TRY(gd_config_resume_loss(then, now, checkpoint));
  c.invariant = then->numerics == GD_NUMERICS_INVARIANT && now->numerics == GD_NUMERICS_INVARIANT;
  /* Version 1 of the numbers had no time blocks; and they follow from T and R, whose change is judged by itself. */
  bool follows = before.batch.sequence != now->batch.sequence || before.parallel.blocks != now->parallel.blocks;
  if (!before.parallel.time_blocks || follows) before.parallel.time_blocks = now->parallel.time_blocks;
  gd_config_compare(&before, now, judge, &c);
  return c.status;
}

gd_status gd_config_resume_trained(const gd_spec *then, const gd_tensor *saved, int32_t saved_count, const gd_spec *now,
                                   const gd_tensor *tensors, int32_t count, const char *checkpoint) {
  const gd_config_key *key = gd_config_find("finetune.train");
  char before[GD_CONFIG_VALUE_BYTES], after[GD_CONFIG_VALUE_BYTES], tensor[GD_NAME_BYTES + 64];
  gd_config_value(key, then, before, sizeof before);
  gd_config_value(key, now, after, sizeof after);
  for (int32_t a = 0, b = 0; a < saved_count && b < count;) {
    int order = strcmp(saved[a].name, tensors[b].name);
    if (order == 0 && saved[a].frozen != tensors[b].frozen) {
      snprintf(tensor, sizeof tensor,
               saved[a].frozen ? " (%s is frozen there and learns here)" : " (%s learns there and is frozen here)",
               saved[a].name);
      return refuse(key, before, after, checkpoint, tensor);
    }
    a += order <= 0;
    b += order >= 0;
  }
  if (strcmp(before, after) != 0)
    gd_log(GD_LOG_INFO, "resume: %s was %s, is now %s: the same tensors learn", key->name, before, after);
  return GD_OK;
}

gd_status gd_config_check_allowed(const char *allowed) {
  for (const char *p = allowed; p && *p; p += strcspn(p, ","), p += *p == ',') {
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(p, ","), p);
    const gd_config_key *key = gd_config_find(name);
    const char *near = key ? NULL : gd_config_nearest_key(name);
    if (!key)
      return gd_fail_user(GD_USAGE, "--allow-change %s: unknown key%s%s%s", name, near ? "; did you mean \"" : "",
                          near ? near : "", near ? "\"?" : "");
    if (key->change == GD_CHANGE_NEVER || key->change == GD_CHANGE_TENSORS)
      return gd_fail_user(GD_USAGE,
                          "--allow-change %s: a checkpoint has no meaning with another one; model.init_from takes the "
                          "weights alone",
                          name);
    if (key->change != GD_CHANGE_ASKED && key->change != GD_CHANGE_BLOCKS)
      return gd_fail_user(GD_USAGE, "--allow-change %s: may change without being allowed to", name);
  }
  return GD_OK;
}
