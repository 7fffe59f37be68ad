/* Who meets whom in the doctor's tournament, and the median that the slowest is held against. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "launch/doctor.h"

enum { MOST = 40 };

static void each_pair_meets_once_and_nobody_is_in_two_places(void **state) {
  (void)state;
  for (int32_t ranks = 2; ranks <= MOST; ranks++) {
    int met[MOST][MOST];
    memset(met, 0, sizeof met);
    for (int32_t round = 0; round < ranks - 1 + ranks % 2; round++)
      for (int32_t r = 0; r < ranks; r++) {
        int32_t other = gd_doctor_opponent(r, ranks, round);
        assert_in_range(other + 1, 0, ranks);
        assert_int_not_equal(other, r);
        if (other < 0) continue;
        assert_int_equal(gd_doctor_opponent(other, ranks, round), r);
        met[r][other]++;
      }
    for (int32_t a = 0; a < ranks; a++)
      for (int32_t b = 0; b < ranks; b++) assert_int_equal(met[a][b], a != b);
  }
}

static void the_median_is_the_middle_one(void **state) {
  (void)state;
  double one[] = {3}, odd[] = {5, 1, 4}, even[] = {9, 2, 7, 1};
  assert_true(gd_doctor_median(one, 1) == 3);
  assert_true(gd_doctor_median(odd, 3) == 4);
  assert_true(gd_doctor_median(even, 4) == 7);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_pair_meets_once_and_nobody_is_in_two_places),
      cmocka_unit_test(the_median_is_the_middle_one),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
