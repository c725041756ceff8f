# Rooms: shoal_room() makes one static library per folder. A room sees only the headers of the rooms it names in
# LINKS: each room's headers are reached through a folder of its own that holds nothing but a link to the room's
# source folder, so `#include "router/core/route.h"` from worker/ fails to compile. Links are PRIVATE throughout.

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_C_FLAGS_RELEASE "-O2 -g")

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
endif()

# -ffp-contract=off: a fused multiply-add appears only where the source asks for it, so that bits don't depend on the compiler.
set(NOT_CUDA "$<NOT:$<COMPILE_LANGUAGE:CUDA>>") # nvcc has options of its own (cuda.cmake)
add_compile_options("$<${NOT_CUDA}:-Wall;-Wextra;-Wshadow;-Wstrict-prototypes;-Wmissing-prototypes;-Wpointer-arith>"
                    "$<${NOT_CUDA}:-Wno-unused-parameter;-Wimplicit-fallthrough;-fno-strict-aliasing;-ffp-contract=off>"
                    "$<${NOT_CUDA}:-fno-omit-frame-pointer>")
add_compile_definitions(_GNU_SOURCE)
if(SHOAL_WERROR)
  add_compile_options("$<${NOT_CUDA}:-Werror>")
endif()
if(SHOAL_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(SHOAL_SANITIZE)
  add_compile_options(-fsanitize=${SHOAL_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${SHOAL_SANITIZE})
endif()

# shoal_view(<room folder>): the include folder through which other rooms see this one.
function(shoal_view folder out)
  string(REPLACE "/" "_" flat ${folder})
  set(view ${CMAKE_BINARY_DIR}/rooms/${flat})
  get_filename_component(parent ${view}/${folder} DIRECTORY)
  file(MAKE_DIRECTORY ${parent})
  file(CREATE_LINK ${CMAKE_SOURCE_DIR}/${folder} ${view}/${folder} SYMBOLIC)
  set(${out} ${view} PARENT_SCOPE)
endfunction()

# shoal_room(<folder> SOURCES a.c b.c LINKS common/base ... SYSTEM PkgConfig::UV ...)
# Target name: the folder with '/' turned to '_' (router/core -> router_core).
function(shoal_room folder)
  cmake_parse_arguments(ROOM "" "" "SOURCES;LINKS;SYSTEM" ${ARGN})
  string(REPLACE "/" "_" target ${folder})
  add_library(${target} STATIC ${ROOM_SOURCES})
  shoal_view(${folder} view)
  target_include_directories(${target} PRIVATE ${view} INTERFACE ${view})
  shoal_links(${target} ${ROOM_LINKS})
  target_link_libraries(${target} PRIVATE ${ROOM_SYSTEM})
endfunction()

# shoal_links(<target> common/base ...): link rooms privately.
function(shoal_links target)
  foreach(folder ${ARGN})
    string(REPLACE "/" "_" dep ${folder})
    target_link_libraries(${target} PRIVATE ${dep})
  endforeach()
endfunction()

# shoal_program(<name> SOURCES ... LINKS rooms... SYSTEM libs...)
function(shoal_program name)
  cmake_parse_arguments(PROG "" "" "SOURCES;LINKS;SYSTEM" ${ARGN})
  add_executable(${name} ${PROG_SOURCES})
  shoal_links(${name} ${PROG_LINKS})
  target_link_libraries(${name} PRIVATE ${PROG_SYSTEM})
endfunction()

# shoal_unit_test(<name> SOURCES ... LINKS rooms...): a cmocka test, registered with ctest under its name.
function(shoal_unit_test name)
  cmake_parse_arguments(UT "" "" "SOURCES;LINKS;SYSTEM;ARGUMENTS" ${ARGN})
  add_executable(${name} ${UT_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  shoal_links(${name} ${UT_LINKS})
  target_link_libraries(${name} PRIVATE PkgConfig::CMOCKA ${UT_SYSTEM})
  add_test(NAME ${name} COMMAND ${name} ${UT_ARGUMENTS} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  if(SHOAL_SANITIZE STREQUAL "thread")
    set_tests_properties(${name} PROPERTIES ENVIRONMENT "TSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/tsan.supp")
  endif()
endfunction()
