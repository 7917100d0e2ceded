*** Settings ***
Documentation       What every board has to do, on whatever simulates it.
...
...                 renode-test renode/*.robot
...                 renode-test --variable BOARDS:nrf52840dk renode/hardware.robot
...                 robot --variable SIMULATOR:qemu --variable "BOARDS:microbit mps2_an385" renode/hardware.robot

Library             ${CURDIR}/device.py
Resource            ${CURDIR}/${SIMULATOR}.resource

Suite Setup         Prepare All
Suite Teardown      Close Simulator
Test Teardown       Stop Board
Test Timeout        20 minutes


*** Variables ***
${SIMULATOR}        renode
${BOARDS}           stm32f4_discovery stm32f072b_discovery bluepill_f103 nucleo_l073rz stm32f746g_disco nucleo_h753zi
...                 nrf52840dk arduino_nano_33_ble mps2_an385 mps2_an386 mps2_an500 mps2_an505


*** Test Cases ***
Boots And Says What It Is
    [Template]    Board Boots And Says What It Is
    FOR    ${board}    IN    @{{$BOARDS.split()}}
        ${board}
    END

Predicts Exactly
    [Template]    Board Predicts Exactly
    FOR    ${board}    IN    @{{$BOARDS.split()}}
        ${board}
    END

Captures What It Predicts
    [Template]    Board Captures What It Predicts
    FOR    ${board}    IN    @{{$BOARDS.split()}}
        ${board}
    END

Survives Garbage On The Line
    [Template]    Board Survives Garbage On The Line
    FOR    ${board}    IN    @{{$BOARDS.split()}}
        ${board}
    END

Comes Back After A Reset
    [Template]    Board Comes Back After A Reset
    FOR    ${board}    IN    @{{$BOARDS.split()}}
        ${board}
    END

Reports Instructions
    [Template]    Board Reports Instructions
    FOR    ${board}    IN    @{{$BOARDS.split()}}
        ${board}
    END


*** Keywords ***
Prepare All
    [Documentation]    Builds the firmware of all boards before any test's time-out runs. One that does not build
    ...    fails the board's tests.
    Open Simulator
    FOR    ${board}    IN    @{{$BOARDS.split()}}
        Log    Building the firmware for ${board}    console=True
        Run Keyword And Ignore Error    Prepare Firmware    ${board}
    END

Board Boots And Says What It Is
    [Arguments]    ${board}
    ${facts}=    Prepare Firmware    ${board}
    ${port}=    Start Board    ${facts}
    ${said}=    Describe Device    ${port}
    Should Be Equal    ${said}[device][board]    ${facts}[board]    msg=${board}
    Should Be Equal    ${said}[device][core]    ${facts}[core]    msg=${board}
    Should Be Equal As Integers    ${said}[device][clock_hz]    ${facts}[clock_hz]    msg=${board}
    Should Be Equal As Integers    ${said}[device][models]    1    msg=${board}
    Should Be Equal    ${said}[model][name]    ${facts}[model]    msg=${board}
    Should Be Equal    ${said}[model][digest]    ${facts}[digest]    msg=${board}
    Should Be Equal As Integers    ${said}[heartbeat][faults]    0    msg=${board}
    Should Be Equal As Integers    ${said}[heartbeat][lost]    0    msg=${board}

Board Predicts Exactly
    [Arguments]    ${board}
    ${facts}=    Prepare Firmware    ${board}
    ${port}=    Start Board    ${facts}
    ${predictions}=    Predict Samples    ${port}    ${facts}
    Predictions Should Be Exact    ${facts}    ${predictions}

Board Captures What It Predicts
    [Arguments]    ${board}
    ${facts}=    Prepare Firmware    ${board}
    ${port}=    Start Board    ${facts}
    ${store}=    New Store
    ${predictions}=    Predict Samples    ${port}    ${facts}    ${store}
    Predictions Should Be Exact    ${facts}    ${predictions}
    Captures Should Be Complete    ${facts}    ${store}
    Ring Should Be Empty    ${port}

Board Survives Garbage On The Line
    [Arguments]    ${board}
    ${facts}=    Prepare Firmware    ${board}
    ${port}=    Start Board    ${facts}
    Send Garbage    ${port}
    ${said}=    Describe Device    ${port}
    ${dropped}=    Evaluate    $said["heartbeat"]["bad"] + $said["heartbeat"]["oversize"]
    Should Be True    ${dropped} > 0    msg=${board}: nothing was dropped
    Should Be Equal As Integers    ${said}[heartbeat][faults]    0    msg=${board}
    ${predictions}=    Predict Samples    ${port}    ${facts}
    Predictions Should Be Exact    ${facts}    ${predictions}

Board Comes Back After A Reset
    [Arguments]    ${board}
    ${facts}=    Prepare Firmware    ${board}
    ${port}=    Start Board    ${facts}
    ${before}=    Describe Device    ${port}
    Reset Board
    ${after}=    Describe Device    ${port}
    Should Not Be Equal    ${before}[device][boot]    ${after}[device][boot]    msg=${board}
    Should Be Equal As Integers    ${after}[heartbeat][faults]    0    msg=${board}
    ${predictions}=    Predict Samples    ${port}    ${facts}
    Predictions Should Be Exact    ${facts}    ${predictions}

Board Reports Instructions
    [Documentation]    A prediction takes the library's instructions, counted one by one on the core, and those of
    ...    the interrupts and the clock around it.
    [Arguments]    ${board}
    ${facts}=    Prepare Firmware    ${board}
    ${port}=    Start Board    ${facts}
    ${predictions}=    Predict Samples    ${port}    ${facts}
    FOR    ${prediction}    ${counted}    IN ZIP    ${predictions}    ${facts}[instructions]
        ${taken}=    Instructions Of    ${facts}    ${prediction}
        Log    ${board}: ${taken} instructions around an invoke of ${counted}, ${prediction}[cycles] cycles    console=True
        Should Be True    ${counted} <= ${taken} + 2000    msg=${board}
        Should Be True    ${taken} <= 1.1 * ${counted} + 10000    msg=${board}
    END
