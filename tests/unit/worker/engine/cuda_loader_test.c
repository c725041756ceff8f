// The loader of the CUDA backend, with libraries that are and aren't what it looks for. No GPU is needed.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "worker/engine/cuda/loader.h"
#include "worker/engine/table.h"

static void refused(const char *path, const char *words) {
    struct error e = {0};
    const struct backend *backend = NULL;
    assert_int_equal(cuda_backend_load(path, &backend, &e), ERR_UNAVAILABLE);
    assert_null(backend);
    if (strstr(error_text(&e), words) == NULL) fail_msg("no \"%s\" in: %s", words, error_text(&e));
}

static void a_library_of_the_same_build_gives_its_backend(void **state) {
    struct error e = {0};
    const struct backend *backend = NULL;
    assert_int_equal(cuda_backend_load(LIBRARIES "/cuda_library_good.so", &backend, &e), ERR_NONE);
    assert_string_equal(backend->name, "fake");
    assert_int_equal(cuda_backend_load(LIBRARIES "/cuda_library_good.so", &backend, &e), ERR_NONE); // again
}

static void a_library_of_another_build_is_refused(void **state) {
    refused(LIBRARIES "/cuda_library_other_build.so", "not of the same build");
    refused(LIBRARIES "/cuda_library_no_entry.so", "not of the same build");
}

static void what_is_no_library_is_refused_with_the_loaders_words(void **state) {
    refused(LIBRARIES "/no_such_file.so", "no_such_file.so");
    refused(__FILE__, "could not be loaded");
}

static void a_program_without_the_library_says_what_is_missing(void **state) {
    struct error e = {0};
    const struct backend *backend = NULL;
    assert_int_equal(backend_find("cuda", &backend, &e), ERR_UNAVAILABLE); // none is in the tests' folder
    assert_null(backend);
    assert_non_null(strstr(error_text(&e), "libshoal-cuda.so"));
    assert_non_null(strstr(error_text(&e), "--device cpu"));
    assert_int_equal(backend_find("tpu", &backend, &e), ERR_NOT_FOUND);
    assert_non_null(strstr(error_text(&e), "cpu, cuda, mock"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_library_of_the_same_build_gives_its_backend),
        cmocka_unit_test(a_library_of_another_build_is_refused),
        cmocka_unit_test(what_is_no_library_is_refused_with_the_loaders_words),
        cmocka_unit_test(a_program_without_the_library_says_what_is_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
