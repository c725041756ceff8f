// Known answers of the generator's authors (Random123's kat_vectors).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "common/base/philox.h"

static void check(struct philox counter, uint64_t key, struct philox want) {
    struct philox got = philox4x32(counter, key);
    assert_memory_equal(&got, &want, sizeof want);
}

static void the_published_vectors_come_out(void **state) {
    check((struct philox){{0}}, 0, (struct philox){{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}});
    check((struct philox){{~0u, ~0u, ~0u, ~0u}}, ~UINT64_C(0),
          (struct philox){{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}});
    check((struct philox){{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, UINT64_C(0x299f31d0a4093822),
          (struct philox){{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}});
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_published_vectors_come_out)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
