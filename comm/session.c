/* session.c - a job from its start to its end: ranks and hosts, opened and closed. */
#include "comm/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/collectives_mpi.h"
#include "comm/machine.h"
#include "comm/session_state.h"

static bool number(const char *name, int32_t *out) {
  const char *text = getenv(name);
  if (!text || !*text) return false;
  char *end;
  long value = strtol(text, &end, 10);
  if (end == text || value < 0 || value > INT32_MAX) return false; /* "4(x2)" counts as 4 */
  *out = (int32_t)value;
  return true;
}

void gd_session_environment(gd_launch_environment *out) {
  int32_t rank, ranks;
  *out = (gd_launch_environment){.rank = 0, .ranks = 1, .local_rank = 0, .local_ranks = 1, .tasks = 1};
  if (number("OMPI_COMM_WORLD_RANK", &rank) && number("OMPI_COMM_WORLD_SIZE", &ranks)) {
    number("OMPI_COMM_WORLD_LOCAL_RANK", &out->local_rank);
    number("OMPI_COMM_WORLD_LOCAL_SIZE", &out->local_ranks);
  } else if (number("PMIX_RANK", &rank) && number("SLURM_NTASKS", &ranks)) {
    /* Inside sbatch a plain start sees SLURM_NTASKS too: only srun sets PMIX_RANK or PMI_RANK. */
    number("SLURM_LOCALID", &out->local_rank);
    number("SLURM_STEP_TASKS_PER_NODE", &out->local_ranks);
  } else if (number("PMI_RANK", &rank) && (number("PMI_SIZE", &ranks) || number("SLURM_NTASKS", &ranks))) {
    if (!number("MPI_LOCALRANKID", &out->local_rank)) number("SLURM_LOCALID", &out->local_rank);
    if (!number("MPI_LOCALNRANKS", &out->local_ranks)) number("SLURM_STEP_TASKS_PER_NODE", &out->local_ranks);
  } else {
    /* Set by srun and not by sbatch: this is one task of a step, and nothing says which. */
    number("SLURM_STEP_NUM_TASKS", &out->tasks);
    return;
  }
  out->tasks = ranks;
  if (ranks < 1 || rank >= ranks) return;
  out->rank = rank;
  out->ranks = ranks;
  if (out->local_ranks < 1) out->local_ranks = 1;
}

/* A place and the cores of it that a rank may use. */
typedef struct seat {
  gd_machine_place place;
  cpu_set_t cores;
} seat;

/* Tells ranks that share my place and my cores, and the host names for reports. */
static gd_status find_neighbours(gd_session *session, const gd_machine_place *mine, bool *one_host) {
  seat *all = calloc((size_t)session->ranks, sizeof *all), me = {.place = *mine};
  if (!all) return gd_fail(GD_NO_MEMORY, "out of memory for %d ranks", session->ranks);
  gd_machine_affinity(&me.cores);
  gd_status status = gd_mpi_all_gather(&me, all, sizeof me);
  int32_t same_cores = 0;
  session->local_rank = session->local_ranks = 0;
  session->local_leader = session->rank;
  for (int32_t r = 0; r < session->ranks && status == GD_OK; r++) {
    memcpy(session->watch.rank[r].host, all[r].place.host, sizeof all[r].place.host);
    if (memcmp(&all[r].place, mine, sizeof *mine) != 0) continue;
    session->local_ranks++;
    if (r < session->local_leader) session->local_leader = r;
    if (r < session->rank) session->local_rank++;
    if (CPU_EQUAL(&all[r].cores, &me.cores)) same_cores++;
  }
  /* A launcher that binds ranks has divided the host already; ranks that it left on the same cores share them here. */
  int32_t share = gd_machine_cores() / (same_cores > 0 ? same_cores : 1);
  session->threads = share > 0 ? share : 1;
  *one_host = session->local_ranks == session->ranks;
  free(all);
  return status;
}

static gd_status start_mpi(gd_session *session, const gd_launch_environment *environment) {
  int32_t rank = 0, ranks = 0;
  GD_TRY(gd_mpi_start(environment->local_ranks == environment->ranks, &rank, &ranks));
  session->mpi = true;
  if (ranks != environment->ranks)
    return gd_fail_user(
        GD_USAGE,
        "started as rank %d of %d, but MPI sees %d rank%s: this MPI library and the launcher do not speak to each "
        "other (under SLURM try srun --mpi=pmix, or mpirun inside the job)",
        environment->rank, environment->ranks, ranks, ranks == 1 ? "" : "s");
  session->rank = rank;
  gd_error_set_place(rank, session->host);
  return GD_OK;
}

static gd_status open_parts(gd_session *session, const gd_launch_environment *environment) {
  gd_machine_place mine;
  gd_machine_find_place(&mine);
  memcpy(session->host, mine.host, sizeof session->host);
  gd_error_set_place(session->rank, session->host);
  if (session->ranks > 1) {
    GD_TRY(gd_session_watch_start(session));
    GD_TRY(start_mpi(session, environment));
  }

  session->watch.ranks = session->ranks;
  session->watch.rank = calloc((size_t)session->watch.ranks, sizeof *session->watch.rank);
  session->watch.seen = calloc((size_t)session->watch.ranks, sizeof *session->watch.seen);
  if (!session->watch.rank || !session->watch.seen) return gd_fail(GD_NO_MEMORY, "out of memory for %d ranks", session->ranks);
  memcpy(session->watch.rank[session->rank].host, mine.host, sizeof mine.host);
  bool one_host = true;
  if (session->ranks > 1) GD_TRY(find_neighbours(session, &mine, &one_host));
  for (int32_t i = 0; i < session->entries; i++)
    GD_TRY(gd_calls_watch(&session->calls, i, session->watch.group_name[i], NULL, 0, session->rank, session->ranks));
  GD_TRY(gd_session_control_open(session, one_host));
  gd_session_has_started();
  return GD_OK;
}

/* Tasks that know nothing of each other would train the same run, each alone. */
static gd_status check_connected(const gd_launch_environment *environment) {
  if (environment->tasks <= 1 || environment->ranks > 1) return GD_OK;
  return gd_fail_user(
      GD_USAGE,
      "this is one of %d tasks, but nothing connects them to one job of %d ranks (srun without PMIx: each would "
      "run alone); start it with srun --mpi=pmix (srun --mpi=list says whether SLURM has it), or with gptdist-run "
      "or mpirun inside the job; a job of one rank: srun -n 1",
      environment->tasks, environment->tasks);
}

gd_status gd_session_open(gd_session **out) {
  gd_launch_environment environment;
  gd_session_environment(&environment);
  GD_TRY(check_connected(&environment));
  gd_machine_raise_files();
  gd_session *session = calloc(1, sizeof *session);
  if (!session) return gd_fail(GD_NO_MEMORY, "out of memory for the session");
  session->rank = environment.rank;
  session->ranks = environment.ranks;
  session->local_rank = environment.local_rank;
  session->local_ranks = environment.local_ranks;
  session->threads = gd_machine_cores();
  session->entries = GD_WATCH_SESSION + 1;
  session->beat.step = -1;
  snprintf(session->beat.phase, sizeof session->beat.phase, "start");
  snprintf(session->watch.group_name[GD_WATCH_AGREE], 32, "control");
  snprintf(session->watch.group_name[GD_WATCH_SESSION], 32, "session");
  session->changed_ms = gd_machine_now_ms();
  gd_calls_open(&session->calls);
  session->worst_rank = -1;
  session->wake[0] = session->wake[1] = session->reserved = -1;
  session->beat.patience = GD_WATCH_PATIENCE;
  pthread_mutex_init(&session->beat_lock, NULL);
  pthread_mutex_init(&session->lock, NULL);
  pthread_mutex_init(&session->warn_lock, NULL);
  pthread_cond_init(&session->changed, NULL);
  /* A session that could not open is not torn down: its peers may be anywhere, and the process is about to leave. */
  GD_TRY(open_parts(session, &environment));
  *out = session;
  return GD_OK;
}

void gd_session_close(gd_session *session) {
  if (!session) return;
  gd_session_device_close(session);
  gd_session_control_close(session);
  if (session->mpi) gd_mpi_end();
  gd_session_share_close(session);
  gd_calls_close(&session->calls);
  gd_session_close_warnings(session);
  for (int32_t i = 0; i < session->entries; i++) free(session->entry[i].leader);
  free(session->watch.rank);
  free(session->watch.seen);
  free(session->sockets);
  free(session->readers);
  free(session->finished);
  free(session->contacts);
  pthread_mutex_destroy(&session->beat_lock);
  pthread_mutex_destroy(&session->lock);
  pthread_cond_destroy(&session->changed);
  free(session);
}
